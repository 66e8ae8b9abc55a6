"""Frames of one camera, or of two that are grabbed together, from a thread that outlives the camera's failures.

    thread: open -> warm up -> grab, grab -> retrieve, retrieve -> newest few -> ... -> failed -> wait -> open ...
    caller: take() waits for the next frames

A grab that hangs in a driver can't be ended: its thread is left to itself and a new one begins.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.clock import Clock
from pipeline.errors import SourceError
from pipeline.types import Pixels
from stages.sources.capture.device import Arrival, Device
from stages.sources.capture.stamps import Stamps
from stages.sources.capture.watchdog import Watchdog

__all__ = ["Feed", "Shot", "Told"]

SECOND_NS = 1_000_000_000
KEPT = 2
"""Frames that wait for the caller at most; an older one gives way."""
HANGS_NS = 2 * SECOND_NS
"""A grab that has not noticed the silence by itself so much later hangs."""
POLL_S = 0.2
CLOSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Shot:
    """What the cameras of a feed took together."""

    frame_id: int
    pts_ns: tuple[int, ...]
    """Wall clock time of capture, for each camera."""
    load: tuple[Callable[[], Pixels], ...]
    """Converts the picture of each camera to RGB."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the feed has to say while it runs; called from its thread."""

    warn: Callable[[str], None]
    """A sentence for the log."""
    up: Callable[[bool], None] = lambda up: None
    """Whether the camera delivers."""
    dropped: Callable[[Shot], None] = lambda shot: None
    """A shot that nobody has taken in time."""


class Feed:
    """Reads devices that are grabbed back to back; all are reopened together."""

    def __init__(
        self, devices: Callable[[], Sequence[Device]], clock: Clock, told: Told, *, silence_s: float, warm_up_s: float
    ) -> None:
        """`devices` makes new ones for every thread, because one that hangs can't be shared."""
        self._make, self._clock, self._told = devices, clock, told
        self._silence_ns, self._warm_up_ns = round(silence_s * SECOND_NS), round(warm_up_s * SECOND_NS)
        self.watchdog = Watchdog(self._silence_ns)
        self._shots: deque[Shot] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._next_id = 0
        self._taking = False
        self.stamps: list[Stamps] = []
        """One per camera: jitter and drift."""

    def open(self) -> None:
        """Open the cameras, wait for a frame, begin to read. Raises SourceError where that fails the first time."""
        devices = list(self._make())
        self.stamps = [Stamps() for _ in devices]
        _open_all(devices)
        try:
            self.watchdog.opened(self._clock.monotonic_ns())
            while self._grab(devices) is None:
                pass
        except SourceError:
            _close_all(devices)
            raise
        self._start(devices)

    def take(self, is_over: Callable[[], bool]) -> Iterator[Shot]:
        """Shots in order of capture, as they come, until `is_over`. What came before the first call is gone."""
        self._taking = True
        while not is_over():
            with self._changed:
                self._changed.wait_for(lambda: bool(self._shots), timeout=POLL_S)
                shot = self._shots.popleft() if self._shots else None
            if shot is None:
                self._replace_if_hung()
            else:
                yield shot

    def close(self) -> None:
        """End the thread; one that hangs is left to itself."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _start(self, devices: list[Device]) -> None:
        self._thread = threading.Thread(target=self._run, args=(devices,), name="camera", daemon=True)
        self._thread.start()

    def _is_current(self) -> bool:
        """Whether the thread that asks is the one that reads."""
        return threading.current_thread() is self._thread and not self._closing.is_set()

    def _run(self, devices: list[Device]) -> None:
        opened = bool(devices)
        devices = devices or list(self._make())
        try:
            while self._is_current():
                try:
                    if not opened:
                        self._reopen(devices)
                    self._deliver(devices)
                except SourceError as error:
                    if self._is_current():
                        self._lost(str(error))
                _close_all(devices)
                opened = False
                self._closing.wait(self.watchdog.retry_in_ns(self._clock.monotonic_ns()) / SECOND_NS)
        finally:
            _close_all(devices)

    def _reopen(self, devices: list[Device]) -> None:
        _open_all(devices)
        for stamps in self.stamps:
            stamps.restart()
        self.watchdog.opened(self._clock.monotonic_ns())

    def _deliver(self, devices: list[Device]) -> None:
        """Grab until that fails."""
        warm_ns = self._clock.monotonic_ns() + self._warm_up_ns
        warm = False
        while self._is_current():
            arrivals = self._grab(devices)
            if not self._is_current():
                return
            if arrivals is None:
                continue
            load = tuple(device.retrieve() for device in devices)
            stamped = zip(self.stamps, arrivals, strict=True)
            taken = [stamps.stamp(arrival.arrived_ns, arrival.pts_ns) for stamps, arrival in stamped]
            now_ns = self._clock.monotonic_ns()
            if not warm and now_ns < warm_ns:
                self.watchdog.opened(now_ns)
                continue
            if not warm:
                warm = True
                self._settle(devices)
            self._tell_jumps(devices)
            self._came(devices[0].name, now_ns)
            self._put(taken, load)

    def _grab(self, devices: list[Device]) -> list[Arrival] | None:
        """A frame of every camera; None where there is none yet."""
        arrivals = [arrival for device in devices if (arrival := device.grab()) is not None]
        if len(arrivals) == len(devices):
            return arrivals
        if self.watchdog.is_silent(self._clock.monotonic_ns()):
            raise SourceError(f"camera {devices[0].name} sends, but no picture comes of it")
        return None

    def _tell_jumps(self, devices: list[Device]) -> None:
        for device, stamps in zip(devices, self.stamps, strict=True):
            if stamps.jumped:
                self._told.warn(
                    f"camera {device.name}: its clock jumped, or its pictures were held up for more than a second; "
                    "capture times are anchored anew"
                )

    def _settle(self, devices: list[Device]) -> None:
        for complaint in filter(None, [device.settle() for device in devices]):
            self._told.warn(complaint)

    def _came(self, name: str, now_ns: int) -> None:
        outage_ns = self.watchdog.heard(now_ns)
        self._told.up(True)
        if outage_ns:
            self._told.warn(f"camera {name} is back after {outage_ns / 1e9:.1f} s")

    def _put(self, taken_ns: list[int], load: tuple[Callable[[], Pixels], ...]) -> None:
        if not self._taking:
            return  # the other stages are still being opened; a frame counts once somebody could take it
        shot = Shot(self._next_id, tuple(taken_ns), load)
        self._next_id += 1
        with self._changed:
            self._shots.append(shot)
            old = self._shots.popleft() if len(self._shots) > KEPT else None
            self._changed.notify_all()
        if old is not None:
            self._told.dropped(old)

    def _lost(self, sentence: str) -> None:
        tell = self.watchdog.lost(self._clock.monotonic_ns())
        self._told.up(False)
        if tell:
            self._told.warn(f"{sentence}; trying to open it again")

    def _replace_if_hung(self) -> None:
        """Called by whoever waits: the reading thread can't notice that it hangs."""
        if not self.watchdog.is_silent(self._clock.monotonic_ns() - HANGS_NS):
            return
        self._lost("the camera hangs")
        self._start([])


def _open_all(devices: Sequence[Device]) -> None:
    try:
        for device in devices:
            device.open()
    except SourceError:
        _close_all(devices)
        raise


def _close_all(devices: Sequence[Device]) -> None:
    for device in devices:
        device.close()
