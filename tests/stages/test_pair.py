from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from pipeline.errors import ConfigError, SourceError, StageError
from pipeline.stage import Context, Source
from pipeline.types import Frame, Item, Packet, Role, StereoPair, View
from stages.pair import Pair
from stages.sources.kitti import Kitti
from stages.sources.times import read_table
from stages.sources.video import Video

MS = 1_000_000


class FakeClock:
    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float, until: threading.Event | None = None) -> None:
        self.now_ns += round(seconds * 1e9)


def frame(i: int, view: View = "left", role: Role = "primary", width: int = 8, pts_ns: int | None = None) -> Frame:
    pts_ns = i * 100 * MS if pts_ns is None else pts_ns
    return Frame(np.full((4, width, 3), i, np.uint8), view, i, pts_ns, pts_ns, role)


def packet(i: int, **changes: Any) -> Packet:
    plain = Packet(i, "left", "primary", i * 100 * MS, i * 100 * MS, b"model-id", 8, 4, 1.0, b"")
    return replace(plain, **changes)


@dataclass(kw_only=True)
class Side(Source):
    """A recording of given frames."""

    given: list[Any] = field(default_factory=list)

    def open(self, context: Context) -> None:
        self.context, self.closed = context, False

    def read(self) -> Iterator[Item]:
        yield from self.given

    def close(self) -> None:
        self.closed = True


@dataclass(kw_only=True)
class Camera(Side):
    """The same, live: each frame is handed over when the test says so."""

    clock = "wall"

    def open(self, context: Context) -> None:
        super().open(context)
        self.go = threading.Semaphore(0)

    def read(self) -> Iterator[Item]:
        for given in self.given:
            while not self.go.acquire(timeout=0.01):
                if self.context.stop.is_set():
                    return
            if isinstance(given, Exception):
                raise given
            yield given


def opened(clock: FakeClock | None = None, **fields: Any) -> tuple[Pair, Context]:
    pair = TypeAdapter(Pair).validate_python(fields)
    context = Context("decoder", Path(), clock=clock or FakeClock())
    pair.open(context)
    return pair, context


def run(pair: Pair, items: list[Any]) -> list[Item]:
    out = [result for item in items for result in pair.process(item)]
    out += pair.flush()
    pair.close()
    return out


def ids(items: list[Item]) -> list[tuple[int, int | None]]:
    assert all(isinstance(i, StereoPair) for i in items)
    return [(i.primary.frame_id, i.side.frame_id if i.side else None) for i in items if isinstance(i, StereoPair)]


def right(numbers: range | list[int], **changes: Any) -> list[Frame]:
    return [frame(i, "right", **changes) for i in numbers]


def test_exact_joins_packets_with_a_nested_recording() -> None:
    side = Side(given=right(range(5)))
    pair, context = opened(side=side)
    out = run(pair, [packet(i) for i in range(5)])
    assert ids(out) == [(i, i) for i in range(5)]
    assert all(isinstance(p, StereoPair) and p.side is not None and p.side.role == "side" for p in out)
    assert [row.values for row in context.ledger.rows()] == [{"side_offset_ms": 0.0}] * 5
    assert side.closed


def test_exact_counts_the_unpaired_and_an_early_end(caplog: pytest.LogCaptureFixture) -> None:
    pair, context = opened(side=Side(given=right([0, 2])))
    with caplog.at_level(logging.WARNING, "sidecast"):
        out = run(pair, [packet(i) for i in range(6)])
    assert ids(out) == [(0, 0), (1, None), (2, 2), (3, None), (4, None), (5, None)]
    unpaired = [row.frame_id for row in context.ledger.rows() if row.values.get("unpaired") == 1.0]
    assert unpaired == [1, 3, 4, 5]
    assert context.metrics.registry.get_sample_value("sidecast_frames_unpaired_total") == 4
    assert [r.message for r in caplog.records] == ["the side view ended before frame 3 of the primary view"]


def test_nearest_reports_the_offset() -> None:
    shifted = [frame(i, "right", pts_ns=i * 100 * MS + 30 * MS) for i in range(4)]
    pair, context = opened(policy="nearest", tolerance_ms=40, side=Side(given=shifted))
    out = run(pair, [packet(i) for i in range(4)])
    assert [p.offset_ns for p in out if isinstance(p, StereoPair)] == [30 * MS] * 4
    assert context.metrics.registry.get_sample_value("sidecast_pair_offset_seconds") == 0.03
    assert context.ledger.rows()[0].values == {"side_offset_ms": 30.0}


def test_a_known_offset_of_the_side_views_clock_is_added_to_its_times() -> None:
    slow = [frame(i, "right", pts_ns=(i * 100 - 230) * MS) for i in range(8)]
    pair, context = opened(policy="nearest", tolerance_ms=40, offset_ms=200, side=Side(given=slow))
    out = run(pair, [packet(i) for i in range(3)])
    assert ids(out) == [(0, 0), (1, 1), (2, 2)]
    assert [row.values["side_offset_ms"] for row in context.ledger.rows()] == [-30.0] * 3
    assert [p.offset_ns for p in out if isinstance(p, StereoPair)] == [-30 * MS] * 3


@pytest.mark.parametrize("fields", [{"policy": "exact"}, {"policy": "latest"}])
def test_an_offset_where_no_times_are_compared_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^pair: offset_ms 137 has no meaning here, (exact|latest) compares"):
        opened(offset_ms=137, **fields)


def test_nearest_ignores_the_clock_offset_of_recordings() -> None:
    pair, context = opened(policy="nearest", side=Side(given=right(range(3))))
    context.facts["clock"] = "wall"
    assert ids(run(pair, [packet(i, clock_offset_ns=10**12) for i in range(3)])) == [(0, 0), (1, 1), (2, 2)]


def test_nearest_adds_the_clock_offset_between_two_cameras() -> None:
    camera = Camera(given=[frame(i, "right", pts_ns=i * 100 * MS + 10**12) for i in range(3)])
    pair, context = opened(policy="nearest", tolerance_ms=1, max_wait_ms=5000, side=camera)
    context.facts["clock"] = "wall"
    for _ in camera.given:
        camera.go.release()
    out = run(pair, [packet(i, clock_offset_ns=10**12) for i in range(3)])
    assert ids(out) == [(0, 0), (1, 1), (2, 2)]
    assert all(isinstance(p, StereoPair) and p.offset_ns == 0 for p in out)


def test_a_silent_camera_is_waited_for_no_longer_than_max_wait() -> None:
    pair, _ = opened(policy="nearest", max_wait_ms=0, side=Camera(given=right(range(3))))
    assert ids(run(pair, [packet(0), packet(1)])) == [(0, None), (1, None)]


def test_latest_takes_the_freshest_frame_of_a_camera() -> None:
    clock = FakeClock()
    camera = Camera(given=right([0, 1, 2]))
    pair, context = opened(clock, policy="latest", max_age_ms=150, side=camera)
    assert ids(list(pair.process(packet(0)))) == [(0, None)]
    for _ in range(2):
        camera.go.release()
    wait_for(lambda: pair._camera is not None and len(pair._camera._frames) == 2)
    for now_ms, expected in ((200, 1), (250, 1), (251, None)):
        clock.now_ns = now_ms * MS
        assert ids(list(pair.process(packet(now_ms)))) == [(now_ms, expected)]
    assert run(pair, []) == []
    sample = context.metrics.registry.get_sample_value  # frame 1 was taken at 100 ms
    assert sample("sidecast_side_age_seconds_count") == 2
    assert sample("sidecast_side_age_seconds_sum") == pytest.approx(0.1 + 0.15)


def wait_for(holds: Any) -> None:
    deadline = threading.Event()
    for _ in range(500):
        if holds():
            return
        deadline.wait(0.01)
    raise AssertionError("it did not come true within 5 s")


def test_a_failing_camera_ends_the_stage_with_its_sentence() -> None:
    camera = Camera(given=[SourceError("the camera was unplugged")])
    pair, _ = opened(policy="nearest", max_wait_ms=5000, side=camera)
    camera.go.release()
    with pytest.raises(SourceError, match="unplugged"):
        run(pair, [packet(0), packet(1)])
    pair.close()


def test_two_views_down_one_chain_are_joined() -> None:
    pair, _ = opened()
    items = [item for i in range(4) for item in (packet(i), frame(i, "right", "side"))]
    del items[3]
    assert ids(run(pair, items)) == [(0, 0), (1, None), (2, 2), (3, 3)]


def test_a_chain_without_side_views_holds_only_a_few_primaries() -> None:
    pair, _ = opened()
    assert sum(len(list(pair.process(packet(i)))) for i in range(10)) == 6
    assert len(list(pair.flush())) == 4


def test_references_pass_unchanged_and_at_once() -> None:
    pair, _ = opened()
    reference = frame(3, role="reference")
    assert list(pair.process(packet(3))) == []
    assert list(pair.process(reference)) == [reference]


def test_views_of_different_sizes_are_refused_with_both_sizes() -> None:
    pair, _ = opened(side=Side(given=right([0], width=9)))
    with pytest.raises(StageError, match=r"pair at frame 0: .*left.* 8x4, .*right.* 9x4"):
        run(pair, [packet(0)])


def test_one_view_twice_is_refused() -> None:
    pair, _ = opened(side=Side(given=[frame(0, "left")]))
    with pytest.raises(StageError, match="both the left one"):
        run(pair, [packet(0)])


def test_a_side_view_that_is_still_coded_is_refused() -> None:
    pair, _ = opened()
    with pytest.raises(StageError, match="decode_image belongs before pair"):
        run(pair, [packet(0, view="right", role="side")])


def test_a_restarted_encoder_begins_with_the_recording_again() -> None:
    pair, _ = opened(side=Side(given=right(range(3))))
    items = [packet(i, stream_id=1) for i in range(3)] + [packet(i, stream_id=2) for i in range(3)]
    assert ids(run(pair, items)) == [(0, 0), (1, 1), (2, 2)] * 2


def test_an_unreadable_side_picture_does_not_drop_the_primary(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "image_03" / "data"
    folder.mkdir(parents=True)
    source = data / "kitti_odom_color" / "seq02" / "image_03" / "data"
    for i in range(3):
        picture = (source / f"{i:010d}.png").read_bytes()
        (folder / f"{i:010d}.png").write_bytes(picture[: len(picture) // 2] if i == 1 else picture)
    pair, context = opened(side=Kitti(drive=str(tmp_path), view="right"))
    items = [packet(i, width=1241, height=376) for i in range(3)]
    assert ids(run(pair, items)) == [(0, 0), (1, None), (2, 2)]
    assert set(context.ledger.counts()) == {"pending"}


@pytest.mark.parametrize(
    ("policy", "tolerance_ms", "partner_of_22"), [("exact", 50, None), ("nearest", 50, None), ("nearest", 110, 23)]
)
def test_gaps_of_an_unsynchronised_drive(
    data: Path, policy: str, tolerance_ms: float, partner_of_22: int | None
) -> None:
    folder = data / "kitti_drive_gray_video"

    def video(view: View) -> Video:
        return Video(
            view=view,
            left=str(folder / "left.mp4"),
            right=str(folder / "right.mp4"),
            timestamps=str(folder / "{view}_frames.csv"),
            frames="15:30",
            size=(64, 32),
            pace="fast",
        )

    left = video("left")
    left.open(Context("encoder", Path()))
    pair, context = opened(policy=policy, tolerance_ms=tolerance_ms, side=video("right"))
    out = dict(ids(run(pair, list(left.read()))))
    left.close()
    # Left frame 23 and right frame 22 are missing in the recording.
    assert out == {i: partner_of_22 if i == 22 else i for i in range(15, 30) if i != 23}
    offsets = [row.values.get("side_offset_ms", 0.0) for row in context.ledger.rows() if row.frame_id != 22]
    assert max(map(abs, offsets)) < 5


@pytest.mark.parametrize("clip", ["kitchen", "rooftop"])
def test_phone_videos_of_different_lengths_pair_by_time(data: Path, clip: str) -> None:
    folder = data / "unsync_phone_video" / clip
    fields: dict[str, Any] = {"left": str(folder / "left.mp4"), "right": str(folder / "right.mp4"), "size": (64, 32)}
    left = Video(**fields, frames="280:")
    left.open(Context("encoder", Path()))
    pair, _ = opened(policy="nearest", tolerance_ms=20, side=Video(**fields, view="right", frames="280:"))
    out = ids(run(pair, list(left.pull())))
    left.close()
    assert out == [(i, i) for i, _ in out]
    assert out[-1][0] == {"kitchen": 312, "rooftop": 295}[clip]


@pytest.mark.parametrize("policy", ["exact", "nearest"])
def test_every_frame_of_an_unsynchronised_drive_has_its_right_partner(data: Path, policy: str) -> None:
    """Against the tables of times themselves: left frame 23 and right frame 22 are missing in the recording."""
    folder = data / "kitti_drive_gray_video"
    left, right = (
        {row.frame_id or 0: row.pts_ns for row in read_table(folder / f"{view}_frames.csv")}
        for view in ("left", "right")
    )
    side = Side(given=[frame(0, "right", pts_ns=t) for t in right.values()])
    side.given = [replace(f, frame_id=i) for f, i in zip(side.given, right, strict=True)]
    pair, context = opened(policy=policy, tolerance_ms=50, side=side)
    out = dict(ids(run(pair, [packet(i, pts_ns=t) for i, t in left.items()])))

    def partner(frame_id: int) -> int | None:
        if policy == "exact":
            return frame_id if frame_id in right else None
        best = min(right, key=lambda i: abs(right[i] - left[frame_id]))
        return best if abs(right[best] - left[frame_id]) <= 50 * MS else None

    assert out == {i: partner(i) for i in left}
    assert len(out) == 199
    assert [i for i, found in out.items() if found is None] == [22]
    assert context.metrics.registry.get_sample_value("sidecast_frames_unpaired_total") == 1


def test_an_outage_of_the_side_camera_is_waited_for_once() -> None:
    clock = FakeClock()
    pair, _ = opened(clock, policy="nearest", max_wait_ms=30, side=Camera(given=right([0])))
    pair._camera.wait = lambda seconds: clock.sleep(seconds)  # type: ignore[union-attr, method-assign]
    out = run(pair, [packet(i) for i in range(50)])
    assert ids(out) == [(i, None) for i in range(50)]
    assert clock.now_ns == 30 * MS


def test_what_a_nested_camera_went_through_is_in_the_facts() -> None:
    @dataclass(kw_only=True)
    class Telling(Camera):
        def close(self) -> None:
            self.context.facts.update(camera_right={"reopened": 2}, expected_frames=5)

    pair, context = opened(policy="nearest", side=Telling())
    pair.close()
    assert context.facts == {"camera_right": {"reopened": 2}}
