"""The thread that reads cameras and outlives their failures, with devices that do what the test says."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.clock import SystemClock
from pipeline.errors import SourceError
from stages.sources.capture.device import Arrival
from stages.sources.capture.feed import KEPT, Feed, Shot, Told

CLOCK = SystemClock()


class Bench:
    """Devices that give a frame for each `give()`, and fail when they are told to."""

    def __init__(self, cameras: int = 1) -> None:
        self.cameras = cameras
        self.steps: queue.Queue[object] = queue.Queue()
        self.opened = self.closed = 0
        self.fail_open: str | None = None
        self.log: list[str] = []
        self.said: list[str] = []
        self.up: list[bool] = []
        self.dropped: list[int] = []
        self.settled: str | None = None

    def give(self, frames: int = 1) -> None:
        for _ in range(frames):
            self.steps.put("frame")

    def devices(self) -> list[FakeDevice]:
        return [FakeDevice(self, i) for i in range(self.cameras)]

    def feed(self, silence_s: float = 30.0, warm_up_s: float = 0.0) -> Feed:
        told = Told(self.said.append, self.up.append, lambda shot: self.dropped.append(shot.frame_id))
        return Feed(self.devices, CLOCK, told, silence_s=silence_s, warm_up_s=warm_up_s)


class FakeDevice:
    def __init__(self, bench: Bench, number: int) -> None:
        self.bench, self.number, self.name = bench, number, f"fake{number}"

    def open(self) -> None:
        if self.bench.fail_open:
            raise SourceError(self.bench.fail_open)
        self.bench.opened += 1

    def grab(self) -> Arrival | None:
        if self.number == 0:
            step = self.bench.steps.get(timeout=20)
            if isinstance(step, Exception):
                raise step
            if isinstance(step, threading.Event):
                step.wait(20)
            if step == "nothing":
                return None
        self.bench.log.append(f"grab {self.number}")
        return Arrival(CLOCK.wall_ns(), None)

    def retrieve(self) -> Callable[[], np.ndarray]:
        self.bench.log.append(f"retrieve {self.number}")
        return lambda: np.full((2, 2, 3), self.number, np.uint8)

    def settle(self) -> str | None:
        return self.bench.settled

    def close(self) -> None:
        self.bench.closed += 1


@pytest.fixture
def bench() -> Bench:
    return Bench()


class Taken:
    """Takes shots in a thread of its own, as a stage does."""

    def __init__(self, feed: Feed, bench: Bench) -> None:
        self.bench, self.feed, self.stop, self.shots = bench, feed, threading.Event(), queue.Queue[Shot]()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(5)

    def next(self) -> Shot:
        return self.shots.get(timeout=10)

    def close(self) -> None:
        self.stop.set()
        self._thread.join(5)
        _close(self.feed, self.bench)

    def _run(self) -> None:
        shots = self.feed.take(self.stop.is_set)
        self.feed._taking = True
        self._ready.set()
        for shot in shots:
            self.shots.put(shot)


def _open(bench: Bench, **options: float) -> Taken:
    feed = bench.feed(**options)
    bench.give()
    feed.open()
    return Taken(feed, bench)


def test_frames_are_counted_and_stamped_with_the_wall_clock(bench):
    taken = _open(bench)
    before = CLOCK.wall_ns()
    shots = []
    for _ in range(3):
        bench.give()
        shots.append(taken.next())
    taken.close()
    assert [shot.frame_id for shot in shots] == [0, 1, 2]
    stamps = [shot.pts_ns[0] for shot in shots]
    assert stamps == sorted(set(stamps))
    assert before - 50_000_000 <= stamps[0] <= CLOCK.wall_ns()
    assert bench.said == []


def test_two_cameras_are_grabbed_back_to_back_then_retrieved():
    bench = Bench(cameras=2)
    taken = _open(bench)
    bench.log.clear()
    bench.give()
    shot = taken.next()
    taken.close()
    assert bench.log == ["grab 0", "grab 1", "retrieve 0", "retrieve 1"]
    assert shot.pts_ns[0] < shot.pts_ns[1] < shot.pts_ns[0] + 1_000_000_000
    assert [int(load()[0, 0, 0]) for load in shot.load] == [0, 1]


def test_what_comes_before_anybody_takes_it_is_not_counted(bench):
    feed = bench.feed()
    bench.give(6)
    feed.open()
    while not bench.steps.empty():
        pass
    taken = Taken(feed, bench)
    bench.give()
    assert taken.next().frame_id <= 1
    taken.close()
    assert bench.dropped == []


def test_the_oldest_frames_give_way_and_are_told(bench):
    feed = bench.feed()
    bench.give()
    feed.open()
    feed._taking = True
    bench.give(KEPT + 3)
    _until(lambda: len(bench.dropped) == 3)
    stop = threading.Event()
    shots = feed.take(stop.is_set)
    kept = [next(shots).frame_id for _ in range(KEPT)]
    stop.set()
    _close(feed, bench)
    assert bench.dropped == [0, 1, 2]
    assert kept == [3, 4]


def test_frames_of_the_warm_up_do_not_count(bench):
    taken = _open(bench, warm_up_s=0.2)
    bench.settled = "the exposure cannot be locked"
    bench.give(3)
    _until(bench.steps.empty)
    assert bench.said == []
    threading.Event().wait(0.25)
    bench.give()
    assert taken.next().frame_id == 0
    taken.close()
    assert bench.said == ["the exposure cannot be locked"]


def test_a_camera_that_cannot_be_opened_at_first_is_an_error(bench):
    bench.fail_open = "camera fake0: connection refused"
    with pytest.raises(SourceError, match="connection refused"):
        bench.feed().open()
    assert bench.closed == 1


def test_a_camera_that_gives_nothing_at_first_is_an_error(bench):
    bench.steps.put(SourceError("nothing came for 1 s"))
    with pytest.raises(SourceError, match="nothing came"):
        bench.feed().open()
    assert bench.closed == 1


def test_a_read_error_leads_to_reopening_and_the_count_goes_on(bench):
    taken = _open(bench)
    bench.give()
    assert taken.next().frame_id == 0
    bench.steps.put(SourceError("camera fake0 has hung up"))
    _until(lambda: bench.opened == 2)
    bench.give()
    assert taken.next().frame_id == 1
    taken.close()
    assert taken.feed.watchdog.reopened == 1
    assert bench.said[0] == "camera fake0 has hung up; trying to open it again"
    assert bench.said[1].startswith("camera fake0 is back after 0.")
    assert len(bench.said) == 2
    assert [bench.up[0], False in bench.up, bench.up[-1]] == [True, True, True]


def test_a_camera_that_is_away_for_long_is_told_once(bench):
    taken = _open(bench)
    bench.give()
    taken.next()
    bench.fail_open = "camera fake0: no such device"
    bench.steps.put(SourceError("camera fake0 has hung up"))
    _until(lambda: bench.closed >= 3)
    bench.fail_open = None
    bench.give()
    assert taken.next().frame_id == 1
    taken.close()
    assert len(bench.said) == 2


def test_a_grab_that_hangs_is_left_behind(bench, monkeypatch):
    monkeypatch.setattr("stages.sources.capture.feed.HANGS_NS", 100_000_000)
    taken = _open(bench, silence_s=0.3)
    bench.give()
    taken.next()
    hung = threading.Event()
    bench.steps.put(hung)
    _until(lambda: bench.opened == 2)
    bench.give()
    assert taken.next().frame_id == 1
    hung.set()  # the driver comes back to life: its thread must not deliver any more
    _until(lambda: bench.closed == 1)
    bench.give()
    assert taken.next().frame_id == 2
    taken.close()
    assert "the camera hangs; trying to open it again" in bench.said


def test_data_without_pictures_ends_in_reopening(bench, monkeypatch):
    monkeypatch.setattr("stages.sources.capture.watchdog.FIRST_FRAME_NS", 0)
    taken = _open(bench, silence_s=0.1)
    bench.give()
    taken.next()
    threading.Event().wait(0.15)
    bench.steps.put("nothing")
    _until(lambda: bench.opened == 2)
    taken.close()
    assert bench.said == ["camera fake0 sends, but no picture comes of it; trying to open it again"]


def _close(feed: Feed, bench: Bench) -> None:
    feed._closing.set()  # else the thread would open the camera again
    bench.steps.put(SourceError("unplugged"))
    feed.close()


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come true within 10 s")
