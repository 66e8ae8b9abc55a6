"""One stream of a running node, from its ledger: what a page is told of it, all at once or as news."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.dashboard import figures
from pipeline.dashboard.history import LIVE_LEVELS, Axis, History
from pipeline.dashboard.light import Light, Signs, judge
from pipeline.dashboard.pictures import Composite, Pictures
from pipeline.ledger import DROP_REASONS, PENDING, Row
from pipeline.stage import Context
from pipeline.wire import HEADER_BYTES

__all__ = ["LiveStream"]

S = 1_000_000_000
NOW_NS = 10 * S
"""What `now` is a figure of."""
FRAMES_SHOWN = 300
"""The last frames, one by one, on a page."""
ROWS_KEPT = 1024
"""Frames that may still change; what the other node tells of older ones is not taken in any more."""
ROWS_A_TURN = 4096
INTERVALS_KEPT = 500
"""The last intervals between frames, whose median stands for that of all."""
COMPARED_KEPT = 100
"""The last frames decoded both ways, of which the side view's worth is a mean."""
UNPAIRED_TOLERATED = 0.05

FACTS = ("model", "device", "encode_device", "quality", "width", "height", "clock", "expected_frames")


_Latencies = dict[str, tuple[float, float]]


@dataclass(slots=True)
class _Seen:
    row: Row
    at_ns: int
    amounts: tuple[float, ...]
    timed: bool = False
    """Its capture time counts in the duration."""


class LiveStream:
    """Follows a ledger; every method but `end` and `jpeg` is called from one thread."""

    def __init__(
        self,
        context: Context,
        *,
        relay: bool,
        sends: bool,
        title: str = "Primary view",
        pictures: Pictures | None = None,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """`relay`: the frames come from another node. `sends`: they go on to one. `ready`: the stages are open."""
        self._ready = ready
        self._context, self._relay, self._sends = context, relay, sends
        self.title, self._pictures = title, pictures
        self._picture_is_new = False
        self._ended = False
        self._header_bytes = HEADER_BYTES if relay or sends else None
        self._follower = context.ledger.follow()
        self._axis = Axis()
        self.history = History(LIVE_LEVELS, figures.FIELDS)
        self._seen: dict[int, _Seen] = {}
        self._highest = -1
        self._coded_ns = 0
        self._sums = [0.0] * figures.FIELDS
        self._changed: dict[int, None] = {}
        self._both: dict[int, tuple[float, float]] = {}
        self._intervals: deque[int] = deque(maxlen=INTERVALS_KEPT)
        self._span_ns: tuple[int, int] | None = None
        self._started_ns = self._frame_ns = context.clock.monotonic_ns()
        self._latencies: deque[_Latencies] = deque([{}], maxlen=NOW_NS // S + 1)
        self._now: dict[str, float | None] = figures.now([])
        self._recent: list[tuple[int, Row, tuple[float, ...]]] = []
        self._was_ready = self._link_up = False
        self._drops: Counter[str] = Counter()
        self._unpaired = 0

    def turn(self, now_ns: int) -> None:
        """Take in what has happened since the last turn."""
        if not self._was_ready:
            self._started_ns, self._was_ready = now_ns, self._ready()
        self._drain()
        self._recent = list(self._last(NOW_NS))
        self._now = figures.now(self._recent)
        self._drops = Counter(row.status for _, row, _ in self._recent if row.status in DROP_REASONS)
        self._unpaired = sum(bool(row.values.get("unpaired")) for _, row, _ in self._recent)
        self._latencies.append(self._latency_sums())
        self._link_up = self._value("link_up") == 1

    def _last(self, span_ns: int) -> Iterator[tuple[int, Row, tuple[float, ...]]]:
        """What has come of the newest seconds, oldest first; frames are not far out of order."""
        newest = itertools.takewhile(
            lambda seen: seen.at_ns > self._axis.newest_ns - 2 * span_ns, reversed(self._seen.values())
        )
        chosen = [seen for seen in newest if seen.at_ns > self._axis.newest_ns - span_ns]
        return ((seen.at_ns, seen.row, seen.amounts) for seen in reversed(chosen))

    def look(self, now_ns: int) -> bool:
        """Make a picture if one is due; True if there is a new one."""
        new = self._pictures is not None and self._pictures.turn(now_ns)
        self._picture_is_new = self._picture_is_new or new
        return new

    def picture(self, number: int) -> Composite | None:
        """The picture of that number, unless it is gone."""
        return self._pictures.picture(number) if self._pictures else None

    def end(self) -> None:
        """The run is over; nothing will change any more."""
        self._ended = True

    def light(self) -> Light:
        """The traffic light as it stands now; asked several times a second."""
        return judge(self._signs())

    def whole(self) -> dict[str, Any]:
        """Everything, for a page that has just been opened."""
        levels = [
            {
                "width_s": level.width_ns / S,
                "count": level.count,
                "rows": [figures.bucket(place, sums) for place, sums in level.rows()],
            }
            for level in self.history.levels
        ]
        shown = list(self._seen.values())[-FRAMES_SHOWN:]
        frames = [figures.frame(seen.row, seen.at_ns) for seen in shown]
        return {**self._state(), "levels": levels, "frames": frames, "picture": self._newest_picture()}

    def news(self) -> dict[str, Any]:
        """What has changed since the last news, for pages that had everything before."""
        changed, self._changed = list(self._changed)[-FRAMES_SHOWN:], {}
        levels = [[figures.bucket(place, sums) for place, sums in level.news()] for level in self.history.levels]
        seen = [self._seen[number] for number in changed if number in self._seen]
        frames = [figures.frame(one.row, one.at_ns) for one in seen]
        new, self._picture_is_new = self._picture_is_new, False
        picture = {"picture": self._newest_picture()} if new else {}
        return {**self._state(), "news": levels, "frames": frames, **picture}

    def _drain(self) -> None:
        for row in self._follower.take(ROWS_A_TURN):
            self._take(row)

    def _newest_picture(self) -> int | None:
        return self._pictures.number if self._pictures else None

    def _take(self, row: Row) -> None:
        """Count a row, or what is different now of one that was counted."""
        before = self._seen.get(row.number)
        if before is None and row.number <= self._highest:
            return
        if row.status == "unreadable":
            at_ns = self._axis.newest_ns
        else:
            at_ns = before.at_ns if before else self._axis.at(row.pts_ns)
        amounts = figures.amounts(row, self._header_bytes)
        more = amounts if before is None else tuple(a - b for a, b in zip(amounts, before.amounts, strict=True))
        self.history.add(at_ns, more)
        self._sums = [a + b for a, b in zip(self._sums, more, strict=True)]
        seen = self._seen[row.number] = _Seen(row, at_ns, amounts, before is not None and before.timed)
        self._changed[row.number] = None
        if before is None:
            self._arrived(row)
        # Frames on their way have no bytes yet, so their time must not count either.
        if (both := figures.both_ways(row)) is not None:
            self._compare(row.number, both)
        if amounts[figures.WIRE]:
            self._coded_ns = max(self._coded_ns, at_ns)
        if not seen.timed and row.status != "unreadable" and (row.status != PENDING or amounts[figures.WIRE]):
            seen.timed = True
            self._time(row.pts_ns)

    def _arrived(self, row: Row) -> None:
        self._highest = max(self._highest, row.number)
        self._frame_ns = self._context.clock.monotonic_ns()
        while len(self._seen) > ROWS_KEPT:
            del self._seen[next(iter(self._seen))]

    def _compare(self, number: int, both: tuple[float, float]) -> None:
        self._both[number] = both
        while len(self._both) > COMPARED_KEPT:
            del self._both[next(iter(self._both))]

    def _time(self, pts_ns: int) -> None:
        first_ns, last_ns = self._span_ns or (pts_ns, pts_ns)
        if pts_ns > last_ns:
            self._intervals.append(pts_ns - last_ns)
        self._span_ns = min(first_ns, pts_ns), max(last_ns, pts_ns)

    def _state(self) -> dict[str, Any]:
        facts, light = self._context.facts, judge(self._signs())
        return {
            "facts": {name: _plain(facts.get(name)) for name in FACTS},
            "origin_s": self._axis.origin_ns / S,
            "edge_s": self._edge_ns() / S,
            "light": {"colour": light.colour, "word": light.word, "sentence": light.sentence},
            "now": self._now,
            "run": figures.run(self._sums, self._counts(), self._seconds(), facts),
            "gain": figures.side_gain(self._both.values()),
            "causes": self._causes(),
            "budget_kbps": self._budget_kbps(),
            "link": self._link(),
        }

    def _edge_ns(self) -> int:
        """Where the time axis ends: now for cameras, the newest frame whose bytes are known for recordings."""
        if self._context.facts.get("clock") != "wall" or self._span_ns is None:
            return self._coded_ns
        return max(self._axis.newest_ns, self._context.clock.wall_ns() - self._axis.origin_ns)

    def _seconds(self) -> float | None:
        if self._span_ns is None or not self._intervals:
            return None
        return (self._span_ns[1] - self._span_ns[0] + statistics.median(self._intervals)) / S

    def _signs(self) -> Signs:
        context, now_ns, recent = self._context, self._context.clock.monotonic_ns(), self._recent
        heard_ns = context.heard_ns if self._relay else (self._frame_ns if self._highest >= 0 else None)
        return Signs(
            peer="the encoder" if self._relay else "the source",
            quiet_ns=now_ns - (self._started_ns if heard_ns is None else heard_ns),
            ready=self._was_ready,
            heard=heard_ns is not None,
            frame_ns=now_ns - self._frame_ns if self._highest >= 0 else 0,
            link_up=not self._sends or self._link_up,
            error=str(context.error) if context.error else None,
            ended=self._ended,
            complete=bool(context.facts.get("complete", True)),
            drops=self._drops,
            unpaired=self._unpaired if self._unpaired > UNPAIRED_TOLERATED * len(recent) else 0,
            frames=len(recent),
            kbps=self._now["kbps"],
            budget_kbps=self._budget_kbps(),
        )

    def _budget_kbps(self) -> float | None:
        budget = self._context.facts.get("budget_kbps")
        return figures.known(budget) if isinstance(budget, int | float) else None

    def _link(self) -> dict[str, float | None] | None:
        """What is worth knowing of the link, in the units of a person."""
        if not (self._relay or self._sends):
            return None
        offset_s = self._value("clock_offset_seconds")
        return {
            "credits": self._value("credits") if self._sends else None,
            "resent": self._value("resent") if self._sends else None,
            "reconnects": self._value("reconnects") if self._sends else None,
            "wire_errors": self._value("wire_errors"),
            "clock_offset_ms": None if offset_s is None else offset_s * 1000,
        }

    def _counts(self) -> Counter[str]:
        """Frames by their status."""
        return self._context.ledger.counts()

    def _causes(self) -> list[tuple[str, float]]:
        """Mean ms of every cause of the age, of the frames that came through in the last seconds."""
        before, after = self._latencies[0], self._latencies[-1]
        spent = {name: (a - b, n - m) for name, (a, n) in after.items() for b, m in [before.get(name, (0.0, 0.0))]}
        return [(name, 1000 * seconds / n) for name, (seconds, n) in spent.items() if n]

    def _latency_sums(self) -> _Latencies:
        """Seconds and frames by cause since the start."""
        found: dict[str, dict[str, float]] = {}
        for family in self._context.metrics.latency_seconds.collect():
            for sample in family.samples:
                if "cause" in sample.labels and sample.name.endswith(("_sum", "_count")):
                    found.setdefault(sample.labels["cause"], {})[sample.name.rpartition("_")[2]] = sample.value
        return {cause: (values["sum"], values["count"]) for cause, values in found.items()}

    def _value(self, name: str) -> float | None:
        """What a metric of this node stands at."""
        for family in getattr(self._context.metrics, name).collect():
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    return figures.known(sample.value)
        return None


def _plain(value: object) -> str | int | float | None:
    """A fact, which may come from the other node, as a page may have it."""
    if value is None or isinstance(value, bool):
        return None
    return figures.known(value) if isinstance(value, int | float) else figures.shown(value)
