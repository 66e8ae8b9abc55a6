from __future__ import annotations

import io
import itertools
import logging
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import recordings
from pydantic import TypeAdapter

from pipeline.errors import SourceError, StageError
from pipeline.recording.index import open_index
from pipeline.stage import Context, Source
from pipeline.types import Frame, Packet, StereoPair
from stages import replay
from stages.replay import Replay


class FakeClock:
    def __init__(self) -> None:
        self.now_ns = 10**18

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float, until: threading.Event | None = None) -> None:
        self.now_ns += max(0, round(seconds * 1e9))


@dataclass(kw_only=True)
class Given(Source):
    """A source that can be read by frame_id."""

    view: str = "right"
    ids: list[int] = field(default_factory=list)

    def read(self):
        yield from ()

    def frame_at(self, frame_id: int) -> Frame | None:
        return replace(recordings.side(frame_id), view=self.view, role="primary") if frame_id in self.ids else None


@pytest.fixture
def context(tmp_path) -> Context:
    return Context("player", tmp_path / "out", clock=FakeClock())


@pytest.fixture
def file(tmp_path) -> str:
    """25 packets in 2.5 s with stored side frames."""
    recordings.record(tmp_path, recordings.pairs(25), side=True)
    return str(tmp_path / "recording.mcap")


def played(context: Context, file: str | list[str], **fields):
    source = TypeAdapter(Replay).validate_python({"file": file, **fields})
    source.open(context)
    try:
        return list(source.read())
    finally:
        source.close()


def ids(items) -> list[int]:
    return [(item.primary if isinstance(item, StereoPair) else item).frame_id for item in items]


def test_a_replay_repeats_packets_pairs_and_pixels(context, file):
    found = played(context, file, rate=0)
    for was, now in zip(recordings.pairs(25), found, strict=True):
        taken = {"taken_ns": now.primary.taken_ns, "clock_offset_ns": 0}
        assert now.primary == replace(was.primary, **taken)
        assert now.offset_ns == was.offset_ns
        assert (now.side is None) == (was.side is None)
        if was.side is not None:
            assert (now.side.pixels == was.side.pixels).all()
            assert (now.side.frame_id, now.side.pts_ns, now.side.view) == (
                was.side.frame_id,
                was.side.pts_ns,
                was.side.view,
            )


def test_the_node_that_replays_accounts_for_the_frames(context, file):
    found = played(context, file, rate=0)
    rows = context.ledger.rows()
    assert [row.frame_id for row in rows] == ids(found)
    assert [row.values.get("unpaired") for row in rows[:5]] == [None, None, None, None, 1.0]
    assert all(row.values["wire_bytes"] == row.values["payload_bytes"] + 96 == 996 for row in rows)
    assert rows[1].values["side_offset_ms"] == pytest.approx(-93.0)
    facts = {name: context.facts[name] for name in ("model", "model_id", "quality", "width", "height")}
    assert facts == {"model": "tiny", "model_id": recordings.MODEL_ID.hex(), "quality": 24.0, "width": 32, "height": 16}


@pytest.mark.parametrize(("rate", "seconds"), [(1.0, 2.4), (2.0, 1.2), (0.5, 4.8), (0.0, 0.0)])
def test_rate_is_a_multiple_of_the_pace_of_capture(context, file, rate, seconds):
    before = context.clock.now_ns
    found = played(context, file, rate=rate)
    assert (context.clock.now_ns - before) / 1e9 == pytest.approx(seconds)
    assert found[-1].primary.taken_ns == context.clock.now_ns


def test_start_and_duration_choose_by_capture_time(context, file):
    assert ids(played(context, file, rate=0, start_s=0.45)) == list(range(5, 25))
    assert ids(played(context, file, rate=0, start_s=0.5, duration_s=0.3)) == [5, 6, 7]
    with pytest.raises(SourceError, match=r"has no frame there: it lasts 2\.400 s, start_s is 9"):
        played(context, file, start_s=9)


def test_a_loop_goes_on_with_new_numbers_and_times(context, file):
    source = Replay(file=file, rate=0, loop=True)
    source.open(context)
    assert source.expected_frames() is None
    reading = source.read()
    found = [next(reading) for _ in range(60)]
    context.stop.set()
    assert list(reading) == []
    source.close()
    assert ids(found) == list(range(60))
    stamps = [item.primary.pts_ns for item in found]
    assert {b - a for a, b in itertools.pairwise(stamps)} == {100_000_000}
    assert [item.side is None for item in found[25:50]] == [item.side is None for item in found[:25]]
    assert found[26].offset_ns == found[1].offset_ns


def test_several_files_play_as_one(context, tmp_path):
    recordings.record(tmp_path, recordings.pairs(60, size=60_000), side=True, max_mb=1)
    files = sorted(str(path) for path in tmp_path.glob("*.mcap"))
    assert ids(played(context, files, rate=0)) == list(range(60))
    assert ids(played(context, str(tmp_path / "*.mcap"), rate=0)) == list(range(60))


def test_packets_without_a_pairing_come_out_as_packets(context, tmp_path):
    recordings.record(tmp_path, [recordings.packet(0, role="reference"), recordings.packet(0)])
    found = played(context, str(tmp_path / "recording.mcap"), rate=0)
    assert [(type(item), item.role) for item in found] == [(Packet, "reference"), (Packet, "primary")]


def test_packets_only_leaves_the_side_views_out(context, file):
    assert all(isinstance(item, Packet) for item in played(context, file, rate=0, packets_only=True))


def test_another_source_gives_the_side_frames_that_the_recording_names(context, tmp_path):
    recordings.record(tmp_path, recordings.pairs(8))
    file = str(tmp_path / "recording.mcap")
    found = played(context, file, rate=0, side=Given(ids=[0, 1, 2, 3]))
    assert [item.side and item.side.frame_id for item in found] == [0, 0, 1, 1, None, 2, 3, 3]
    assert {item.side.role for item in found if item.side} == {"side"}


def test_another_source_goes_by_frame_number_where_no_pairing_was_recorded(context, tmp_path):
    recordings.record(tmp_path, [recordings.packet(i) for i in range(4)])
    found = played(context, str(tmp_path / "recording.mcap"), rate=0, side=Given(ids=[0, 2, 3]))
    assert [item.side and item.side.frame_id for item in found] == [0, None, 2, 3]


def test_a_side_view_that_is_named_and_not_stored_must_be_given(context, tmp_path):
    recordings.record(tmp_path, recordings.pairs(3))
    with pytest.raises(StageError, match="does not have the side views, give their source with `side`"):
        played(context, str(tmp_path / "recording.mcap"), rate=0)


def test_a_source_of_the_same_view_is_refused(context, file):
    with pytest.raises(StageError, match="are both the left one"):
        played(context, file, rate=0, side=Given(view="left", ids=[0]))


def test_a_damaged_side_frame_drops_its_packets_and_not_their_pairing(context, file, caplog):
    caplog.set_level(logging.INFO, "sidecast")
    place = recordings.primaries(open_index([Path(file)]))[10].side
    data = bytearray(Path(file).read_bytes())
    data[place.offset + 200] ^= 1
    Path(file).write_bytes(data)
    found = played(context, file, rate=0)
    assert sorted(set(range(25)) - set(ids(found))) == [10, 11]
    assert context.ledger.counts() == {"pending": 23, "corrupt": 2}
    assert "a chunk does not match its CRC" in caplog.text
    assert "the side frame that it was paired with is damaged" in caplog.text


def test_a_lost_pairing_note_is_not_guessed(context, tmp_path, caplog):
    recordings.record(tmp_path, recordings.pairs(8))
    file = tmp_path / "recording.mcap"
    data = bytearray(file.read_bytes())
    data[data.index(b'{"frame_id": 3') + 20] ^= 1
    file.write_bytes(data)
    found = played(context, str(file), rate=0, side=Given(ids=[0, 1, 2, 3]))
    assert [item.side and item.side.frame_id for item in found] == [0, 0, 1, None, 2, 3, 3]
    assert "frame 3 is left out: the note with which side frame it was paired is damaged" in caplog.text


def test_damage_that_is_not_shown_is_counted(context, tmp_path, caplog):
    recordings.record(tmp_path, [recordings.packet(i, size=70_000) for i in range(14)])  # a chunk for each
    file = tmp_path / "recording.mcap"
    data = bytearray(file.read_bytes())
    for entry in recordings.primaries(open_index([file]))[1:13]:
        data[entry.place.offset + 200] ^= 1
    file.write_bytes(data)
    assert ids(played(context, str(file), rate=0)) == [0, 13]
    assert caplog.text.count("a chunk does not match its CRC") == 10
    assert "2 more damaged places, `sidecast info` lists them all" in caplog.text


def test_a_recording_without_packets_is_named(context, tmp_path):
    recordings.record(tmp_path, [recordings.packet(0, role="side")])
    with pytest.raises(SourceError, match=r"recording\.mcap has no packet of a primary view"):
        played(context, str(tmp_path / "recording.mcap"))


@pytest.mark.parametrize(("typed", "count"), [("\n\n\nq\n", 3), ("\n", 1), ("", 0), ("Q\n", 0)])
def test_step_waits_for_enter(context, file, monkeypatch, typed, count):
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    monkeypatch.setattr(replay.select, "select", lambda *_: ([1], [], []))
    assert len(played(context, file, step=True)) == count
    assert len(context.ledger.rows()) == count  # a frame that was not wanted has not come in


def test_damage_is_told_with_its_place(context, file, caplog):
    data = Path(file).read_bytes()
    Path(file).write_bytes(data[: len(data) * 2 // 3])
    found = played(context, file, rate=0)
    assert 10 < len(found) < 25
    assert f"{file} is not complete: {file} was cut off before its end" in caplog.text
