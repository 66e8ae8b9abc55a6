"""Which side frame belongs to which primary frame: a state machine without I/O, threads or clocks.

Primaries wait in a queue; the head is decided as soon as nothing better can come, so they leave in the order in which
they came, each exactly once.

    add_primary --> [ head ... ]  --decide--> Match(primary, side | None)
    add_side    --> [ sides, newest last ]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

__all__ = ["Match", "Pairing", "Policy", "Stamp"]

Policy = Literal["exact", "nearest", "latest"]

P = TypeVar("P")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the decision looks at."""

    frame_id: int
    time_ns: int
    """By one clock for both views: pts, or for `latest` between live views the time of taking."""


@dataclass(frozen=True, slots=True)
class Match(Generic[P, S]):
    """A decided primary, with the side frame that belongs to it or None."""

    primary: P
    side: S | None


@dataclass(slots=True)
class _Waiting(Generic[P]):
    stamp: Stamp
    item: P
    since_ns: int
    sides: int
    """How many side frames had come before."""


class Pairing(Generic[P, S]):
    """Joins two streams. Frame ids and times of the sides should ascend; what is late is used if it still fits.

    exact: the same frame_id. nearest: the closest time, at most `tolerance_ns` away. latest: the newest side that is
    not after the primary, at most `max_age_ns` old; with `live` it is decided at once, by the time given to `decide`.
    A side frame may serve several primaries (a slower side camera); under `exact` it cannot.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        tolerance_ns: int = 50_000_000,
        max_age_ns: int = 200_000_000,
        max_wait_ns: int | None = None,
        max_primaries: int | None = None,
        max_sides: int = 64,
        live: bool = False,
        wait_for_silent: bool = True,
    ) -> None:
        """`max_wait_ns` and `max_primaries`: how long, and how many, primaries are held back; None is without end.

        Without `wait_for_silent`, a source of which nothing came through a whole wait is not waited for again until
        something comes: else every primary of its outage would wait, and hold up those behind it.
        """
        self._wait_for_silent, self._silent, self._sides_seen = wait_for_silent, False, 0
        self._policy, self._live = policy, live
        self._tolerance_ns, self._max_age_ns = tolerance_ns, max_age_ns
        self._max_wait_ns, self._max_primaries = max_wait_ns, max_primaries
        self._primaries: deque[_Waiting[P]] = deque()
        self._sides: deque[tuple[Stamp, S]] = deque(maxlen=max_sides)
        self._newest: Stamp | None = None
        self._ended = False

    @property
    def waiting(self) -> int:
        """Primaries that are not decided yet."""
        return len(self._primaries)

    def wait_left_ns(self, now_ns: int) -> int | None:
        """How long the head may still wait; None without end. 0 where nothing waits."""
        if not self._primaries:
            return 0
        if self._max_wait_ns is None:
            return None
        if self._silent:
            return 0
        return max(0, self._primaries[0].since_ns + self._max_wait_ns - now_ns)

    def add_primary(self, stamp: Stamp, item: P, now_ns: int = 0) -> None:
        """A primary arrived at `now_ns` (monotonic)."""
        self._primaries.append(_Waiting(stamp, item, now_ns, self._sides_seen))

    def add_side(self, stamp: Stamp, item: S) -> None:
        """A side frame arrived."""
        self._sides_seen, self._silent = self._sides_seen + 1, False
        self._sides.append((stamp, item))
        newest = self._newest or stamp
        self._newest = Stamp(max(newest.frame_id, stamp.frame_id), max(newest.time_ns, stamp.time_ns))

    def end_sides(self) -> None:
        """No side frame will come any more."""
        self._ended = True

    def decide(self, now_ns: int = 0, age_now_ns: int = 0) -> Iterator[Match[P, S]]:
        """What is decided by now. `now_ns` as in `add_primary`; `age_now_ns`: what the age of a live side counts to."""
        while self._primaries and self._is_decided(self._primaries[0], now_ns):
            head = self._primaries.popleft()
            yield Match(head.item, self._choose(head.stamp, age_now_ns))

    def _is_decided(self, head: _Waiting[P], now_ns: int) -> bool:
        if self._ended or (self._live and self._policy == "latest"):
            return True
        if self._newest is not None and self._has_reached(self._newest, head.stamp):
            return True
        if self._max_primaries is not None and len(self._primaries) > self._max_primaries:
            return True
        return self._has_waited(head, now_ns)

    def _has_waited(self, head: _Waiting[P], now_ns: int) -> bool:
        if self._max_wait_ns is None or not (self._silent or now_ns - head.since_ns >= self._max_wait_ns):
            return False
        self._silent = not self._wait_for_silent and head.sides == self._sides_seen
        return True

    def _has_reached(self, newest: Stamp, primary: Stamp) -> bool:
        if self._policy == "exact":
            return newest.frame_id >= primary.frame_id
        return newest.time_ns >= primary.time_ns

    def _choose(self, primary: Stamp, age_now_ns: int) -> S | None:
        match self._policy:
            case "exact":
                return self._choose_exact(primary.frame_id)
            case "nearest":
                return self._choose_nearest(primary.time_ns)
            case "latest":
                return self._choose_latest(age_now_ns if self._live else primary.time_ns)

    def _choose_exact(self, frame_id: int) -> S | None:
        found = next((side for stamp, side in self._sides if stamp.frame_id == frame_id), None)
        self._forget(lambda stamp: stamp.frame_id <= frame_id)
        return found

    def _choose_nearest(self, time_ns: int) -> S | None:
        self._forget(lambda stamp: stamp.time_ns < time_ns - self._tolerance_ns)
        best = min(self._sides, key=lambda s: abs(s[0].time_ns - time_ns), default=None)
        if best is None or abs(best[0].time_ns - time_ns) > self._tolerance_ns:
            return None
        return best[1]

    def _choose_latest(self, time_ns: int) -> S | None:
        past = [s for s in self._sides if s[0].time_ns <= time_ns]
        best = max(past, key=lambda s: s[0].time_ns, default=None)
        if best is None:
            return None
        self._forget(lambda stamp: stamp.time_ns < best[0].time_ns)
        return best[1] if time_ns - best[0].time_ns <= self._max_age_ns else None

    def _forget(self, is_past: Callable[[Stamp], bool]) -> None:
        """Drop the oldest sides that no later primary can want."""
        while self._sides and is_past(self._sides[0][0]):
            self._sides.popleft()
