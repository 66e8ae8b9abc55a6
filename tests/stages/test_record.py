from __future__ import annotations

import errno
import json
import logging
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import recordings
from mcap.reader import make_reader

from pipeline.errors import ConfigError, LinkError, StageError
from pipeline.recording.index import Index, Reader, open_index
from pipeline.recording.layout import BITS, EVENTS, METRICS, PREVIEW, SIDE
from pipeline.recording.writer import Writer
from pipeline.stage import Context
from pipeline.types import Decoded, Packet, StereoPair
from pipeline.wire import serialize
from stages import recorded_files, recorder
from stages.lossless import unpack
from stages.picture import decode_picture
from stages.record import Record


def index_of(out: Path, name: str = "recording.mcap") -> Index:
    return open_index([out / name])


def messages(path: Path, topic: str) -> list[bytes]:
    with path.open("rb") as file:
        return [message.data for _, _, message in make_reader(file, validate_crcs=True).iter_messages(topics=topic)]


def opened(out: Path, **fields) -> Record:
    stage = Record(**fields)
    stage.open(Context("test", out, facts={"clock": "recorded"}))
    return stage


def fed(stage: Record, items) -> None:
    for item in items:
        list(stage.process(item))


def test_bits_are_the_very_bytes_of_the_wire(tmp_path):
    packets = [recordings.packet(i, role=role) for i, role in enumerate(["reference", "primary", "side", "primary"])]
    recordings.record(tmp_path, packets)
    assert messages(tmp_path / "recording.mcap", "/sidecast/bits") == [serialize(packet) for packet in packets]
    index = index_of(tmp_path)
    assert [entry.packet.role for entry in index.entries()] == ["reference", "primary", "side", "primary"]
    assert all(entry.pair is None for entry in index.entries())
    assert (index.shortcomings, index.damage) == ([], [])


def test_each_packet_keeps_the_very_side_frame_it_was_paired_with(tmp_path):
    pairs = recordings.pairs(25)
    recordings.record(tmp_path, pairs, side=True)
    index, reader = index_of(tmp_path), Reader()
    for pair, entry in zip(pairs, recordings.primaries(index), strict=True):
        assert entry.pair.offset_ns == pair.offset_ns
        if pair.side is None:
            assert entry.pair.side is entry.side is None
            continue
        stored = reader.packet(entry.side)
        assert (unpack(stored.payload, 32, 16) == pair.side.pixels).all()
        assert (stored.frame_id, stored.pts_ns, stored.role) == (pair.side.frame_id, pair.side.pts_ns, "side")
    reader.close()
    assert index.messages[SIDE] == 12  # each side frame once, however many packets it served


def test_without_side_the_frames_are_named_and_not_stored(tmp_path):
    recordings.record(tmp_path, recordings.pairs(6))
    index = index_of(tmp_path)
    assert index.messages[SIDE] == 0
    assert [entry.pair.side and entry.pair.side.frame_id for entry in recordings.primaries(index)] == [
        0,
        0,
        1,
        1,
        None,
        2,
    ]
    assert not any(entry.side_lost for entry in recordings.primaries(index))


def test_behind_decode_the_preview_shows_what_was_decoded(tmp_path):
    side = recordings.side(0)
    frame = replace(side, view="left", role="primary")
    recordings.record(tmp_path, [Decoded(frame, side, None, None, recordings.packet(0))], side=True)
    (preview,) = messages(tmp_path / "recording.mcap", "/sidecast/preview")
    assert b"left (primary)" in preview
    assert decode_picture(preview[preview.index(b"\xff\xd8") :]).shape == (16, 32, 3)
    assert recordings.primaries(index_of(tmp_path))[0].side is not None


@pytest.mark.parametrize(("every", "count"), [(0.5, 2), (None, 0), (0.1, 10)])
def test_previews_come_at_intervals_of_capture_time(tmp_path, every, count):
    recordings.record(tmp_path, recordings.pairs(20), preview_every_s=every)
    assert index_of(tmp_path).messages[PREVIEW] == count


def test_config_weights_format_and_calibration_are_attached(tmp_path):
    (tmp_path / "calib.txt").write_text("P0: 1 2 3")
    calibration = str(tmp_path / "calib.txt")
    recordings.record(tmp_path, [recordings.packet(0)], config="nodes: {}\n", calibration=calibration)
    attached = {a.name: a.data for a in index_of(tmp_path).attachments}
    assert attached["config.yaml"] == b"nodes: {}\n"
    assert attached["calibration"] == b"P0: 1 2 3"
    assert json.loads(attached["weights.json"]) == {"model": "tiny", "model_id": recordings.MODEL_ID.hex()}
    assert attached["wire-format.txt"].startswith(b"The bytes on the wire and in recordings, version 1")


def test_a_missing_calibration_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"record: calibration .*calib\.txt: No such file"):
        opened(tmp_path, calibration=str(tmp_path / "calib.txt"))


def test_a_calibration_that_is_none_is_refused(tmp_path):
    with (tmp_path / "video.mp4").open("wb") as file:
        file.truncate(20_000_000)
    with pytest.raises(ConfigError, match=r"video\.mp4 has 20000000 bytes, at most 16000000 are attached"):
        opened(tmp_path, calibration=str(tmp_path / "video.mp4"))


def test_what_is_there_is_never_written_over(tmp_path):
    (tmp_path / "recording_0002.mcap.part").touch()
    recordings.record(tmp_path, [recordings.packet(0)])
    recordings.record(tmp_path, [recordings.packet(1)])
    assert recordings.primaries(index_of(tmp_path))[0].packet.frame_id == 0
    assert recordings.primaries(index_of(tmp_path, "recording_0003.mcap"))[0].packet.frame_id == 1


def test_nothing_is_made_where_nothing_comes(tmp_path):
    stage = opened(tmp_path / "out")
    stage.close()
    assert not (tmp_path / "out").exists()


def test_a_file_is_called_part_until_it_is_finished(tmp_path):
    stage = opened(tmp_path)
    fed(stage, [recordings.packet(0)])
    assert [path.name for path in tmp_path.iterdir()] == ["recording.mcap.part"]
    list(stage.flush())
    stage.close()
    assert [path.name for path in tmp_path.iterdir()] == ["recording.mcap"]


def test_rotation_gives_files_that_stand_alone(tmp_path):
    recordings.record(tmp_path, recordings.pairs(60, size=60_000), side=True, max_mb=1)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["recording.mcap", *(f"recording_000{i}.mcap" for i in (2, 3, 4))]
    assert all(path.stat().st_size < 1_100_000 for path in files)
    assert [e.packet.frame_id for e in recordings.primaries(open_index(files))] == list(range(60))
    assert open_index(files).shortcomings == []
    for path in files:
        index = open_index([path])
        assert all(entry.side for entry in recordings.primaries(index) if entry.pair.side)
        assert index.stream["model"] == "tiny"
        assert index.attachments
    assert open_index(files[:2]).shortcomings == ["the next file is missing"]
    assert open_index(files[2:]).shortcomings == [f"the file before {files[2]} is missing"]
    assert open_index([*files[:1], *files[2:]]).shortcomings == [f"the file before {files[2]} is missing"]
    files[1].write_bytes(files[1].read_bytes().replace(b'"file": 2', b'"fine": 2'))  # damaged where it says so
    assert open_index(files).shortcomings == ["1 place is damaged"]


def test_a_run_that_fails_leaves_a_whole_file_that_says_so(tmp_path):
    stage = opened(tmp_path)
    fed(stage, recordings.pairs(3))
    stage._context.error = LinkError("the encoder is gone")
    stage.close()
    assert index_of(tmp_path).shortcomings == ["the encoder is gone"]


class GatedWriter(Writer):
    """A disk that is stuck until the gate opens."""

    gate: threading.Event

    def add(self, channel: int, *args, **options) -> None:
        if channel == BITS:
            self.gate.wait(20)
        super().add(channel, *args, **options)


@pytest.fixture
def gate(monkeypatch) -> Iterator[threading.Event]:
    GatedWriter.gate = threading.Event()
    monkeypatch.setattr(recorded_files, "Writer", GatedWriter)
    yield GatedWriter.gate
    GatedWriter.gate.set()


def test_a_live_run_drops_from_the_recording_and_counts_it_there(tmp_path, gate, caplog):
    caplog.set_level(logging.INFO, "sidecast")
    stage = opened(tmp_path, buffer_mb=1)
    stage._context.facts["clock"] = "wall"
    fed(stage, [recordings.packet(i, size=300_000) for i in range(10)])  # returns although the disk is stuck
    gate.set()
    list(stage.flush())
    stage.close()
    index = index_of(tmp_path)
    kept = [entry.packet.frame_id for entry in recordings.primaries(index)]
    assert kept == [0, 1, 2]
    assert index.shortcomings == ["7 packets were not recorded"]
    events = [json.loads(data) for data in messages(tmp_path / "recording.mcap", "/sidecast/events")]
    assert sum(event["packets"] for event in events if event["event"] == "dropped") == 7
    assert "the disk is too slow, frame 3 is not recorded" in caplog.text
    assert "7 packets are not in the recording" in caplog.text
    sample = stage._context.metrics.registry.get_sample_value
    assert (sample("sidecast_recorder_packets_total"), sample("sidecast_recorder_dropped_total")) == (3, 7)
    assert (sample("sidecast_recorder_up"), sample("sidecast_recorder_waiting_bytes")) == (1, 0)
    assert 900_000 < sample("sidecast_recorder_bytes_total") <= (tmp_path / "recording.mcap").stat().st_size


def test_a_recorded_source_waits_for_the_disk(tmp_path, gate):
    stage = opened(tmp_path, buffer_mb=1)
    packets = [recordings.packet(i, size=300_000) for i in range(10)]
    feeding = threading.Thread(target=fed, args=(stage, packets))
    feeding.start()
    feeding.join(0.3)
    assert feeding.is_alive()
    gate.set()
    feeding.join(20)
    list(stage.flush())
    stage.close()
    assert len(recordings.primaries(index_of(tmp_path))) == 10
    assert index_of(tmp_path).shortcomings == []


def test_a_packet_that_nothing_follows_is_written_all_the_same(tmp_path):
    stage = opened(tmp_path)
    fed(stage, [recordings.packet(0, size=300_000)])
    due = time.monotonic() + 20
    while (tmp_path / "recording.mcap.part").stat().st_size < 300_000:
        assert time.monotonic() < due
        time.sleep(0.01)
    stage.close()


def test_a_stream_whose_end_never_came_is_not_complete(tmp_path):
    recordings.record(tmp_path, [recordings.packet(0)], facts={"complete": False})  # as `receive` says it
    assert index_of(tmp_path).shortcomings == ["the end of the stream never came"]


def test_waiting_for_a_stuck_disk_ends_when_the_run_fails(tmp_path, gate):
    stage = opened(tmp_path, buffer_mb=1)
    feeding = threading.Thread(target=fed, args=(stage, [recordings.packet(i, size=300_000) for i in range(10)]))
    feeding.start()
    stage._context.error = LinkError("over")
    feeding.join(20)
    assert not feeding.is_alive()
    gate.set()
    stage.close()


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file of this process grows beyond so many bytes, as on a full disk."""
    limit, (soft, hard) = 700_000, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_the_recording_and_not_the_run(tmp_path, small_files, caplog):
    stage = opened(tmp_path)
    fed(stage, [recordings.packet(i, size=30_000) for i in range(40)])
    list(stage.flush())
    with pytest.raises(StageError) as caught:
        stage.close()
    sentence = str(caught.value)
    assert "recording.mcap.part cannot be written any more: File too large" in sentence
    index = index_of(tmp_path)
    assert sentence.startswith(f"record: {40 - len(recordings.primaries(index))} packets are not in the recording: ")
    assert len(messages(tmp_path / "recording.mcap", "/sidecast/bits")) == len(recordings.primaries(index)) > 15
    assert any("cannot be written any more" in why for why in index.shortcomings)
    assert index.ends[-1]["packets"] == len(recordings.primaries(index))
    assert stage._context.metrics.registry.get_sample_value("sidecast_recorder_up") == 0
    assert caplog.text.count("the recording ends here") == 1


def test_a_disk_that_is_full_when_another_file_is_begun_leaves_nothing_of_that(tmp_path, monkeypatch, caplog):
    begun = []

    class Refused(Writer):
        def __init__(self, *arguments, **more) -> None:
            begun.append(self)
            if len(begun) > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().__init__(*arguments, **more)

    monkeypatch.setattr(recorded_files, "Writer", Refused)
    stage = opened(tmp_path, max_mb=1)
    fed(stage, [recordings.packet(i, size=300_000) for i in range(6)])
    list(stage.flush())
    with pytest.raises(StageError) as caught:
        stage.close()
    part = tmp_path / "recording_0002.mcap.part"
    assert str(caught.value).endswith(
        f"packets are not in the recording: {part} cannot be written: No space left on device"
    )
    assert "repair" not in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["recording.mcap"]


@pytest.mark.parametrize("path", [".", "/dev/null"])
def test_a_folder_or_a_device_is_no_file(tmp_path, path):
    with pytest.raises(ConfigError, match="is a folder or a device, expected the name of a file"):
        opened(tmp_path, path=path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    stage = opened(tmp_path / "file" / "below")
    with pytest.raises(StageError, match=r"recording\.mcap\.part cannot be written: Not a directory"):
        list(stage.process(recordings.packet(0)))
    stage.close()


def test_the_node_s_metrics_are_recorded_every_two_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "METRICS_NS", 0)
    stage = opened(tmp_path)
    stage._context.metrics.frames_in.inc(3)
    fed(stage, recordings.pairs(3))
    list(stage.flush())
    stage.close()
    told = [json.loads(data) for data in messages(tmp_path / "recording.mcap", "/sidecast/metrics")]
    assert told[-1]["frames_in_total"] == 3
    assert told[-1]["recorder_packets_total"] == 3
    assert index_of(tmp_path).messages[METRICS] == len(told)


def test_the_end_says_what_recording_cost(tmp_path):
    stage = recordings.record(tmp_path, recordings.pairs(10), side=True)
    end = json.loads(messages(tmp_path / "recording.mcap", "/sidecast/events")[-1])
    assert end["event"] == "end"
    assert 0 < end["cpu_s"] <= stage.cpu_s
    assert index_of(tmp_path).messages[EVENTS] == 1


def test_what_is_no_packet_passes_unrecorded(tmp_path):
    stage = opened(tmp_path)
    frame = recordings.side(0)
    assert list(stage.process(frame)) == [frame]
    assert list(stage.process(StereoPair(frame, None))) != []
    stage.close()
    assert list(tmp_path.iterdir()) == []


def test_packets_of_the_encoder_side_can_be_recorded(tmp_path):
    made = [recordings.packet(i, stream_id=0, sequence=0, sent_ns=0) for i in range(3)]
    recordings.record(tmp_path, [StereoPair(packet, recordings.side(0)) for packet in made], side=True)
    index = index_of(tmp_path)
    assert [entry.side_lost for entry in recordings.primaries(index)] == [False] * 3
    assert isinstance(recordings.primaries(index)[0].packet, Packet)
