"""One stream of a running node, from its ledger: what a page is told of it, all at once or as news."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from pipeline.dashboard import figures
from pipeline.dashboard.history import LIVE_LEVELS
from pipeline.dashboard.light import Light, Signs, judge
from pipeline.dashboard.pictures import Composite, Pictures
from pipeline.dashboard.tally import Seen, Tally
from pipeline.ledger import DROP_REASONS, PENDING
from pipeline.stage import Context
from pipeline.wire import HEADER_BYTES

__all__ = ["LiveStream"]

S = 1_000_000_000
NOW_NS = 10 * S
"""What `now` is a figure of."""
FRAMES_SHOWN = 300
"""The last frames, one by one, on a page."""
ROWS_A_TURN = 4096
UNPAIRED_TOLERATED = 0.05

FACTS = ("model", "device", "encode_device", "quality", "width", "height", "clock", "expected_frames")


_Latencies = dict[str, tuple[float, float]]


class LiveStream:
    """Follows a ledger; every method but `end` and `picture` is called from one thread."""

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
        self._follower = context.ledger.follow()
        self.tally = Tally(LIVE_LEVELS, HEADER_BYTES if relay or sends else None)
        self._started_ns = self._frame_ns = self._moved_ns = context.clock.monotonic_ns()
        self._settled = 0
        self._latencies: deque[_Latencies] = deque([{}], maxlen=NOW_NS // S + 1)
        self._now: dict[str, float | None] = figures.now([])
        self._recent: list[Seen] = []
        self._was_ready = self._link_up = False
        self._drops: Counter[str] = Counter()
        self._unpaired = 0

    def turn(self, now_ns: int) -> None:
        """Take in what has happened since the last turn."""
        if not self._was_ready:
            self._started_ns, self._was_ready = now_ns, self._ready()
        highest = self.tally.highest
        for row in self._follower.take(ROWS_A_TURN):
            self.tally.take(row)
        if self.tally.highest > highest:
            self._frame_ns = self._moved_ns = now_ns
        counts = self._counts()
        if (settled := counts.total() - counts[PENDING]) > self._settled:
            self._settled, self._moved_ns = settled, now_ns
        self._look_back()
        if not self._sends:  # age is measured where frames come out
            self._latencies.append(self._latency_sums())
        self._link_up = self._value("link_up") == 1

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
        frames = [figures.frame(seen.row, seen.at_ns) for seen in self.tally.last(FRAMES_SHOWN)]
        told = {"sends": self._sends, "picture": self._newest_picture()}
        return {**self._state(), **told, "levels": self.tally.levels(), "frames": frames}

    def news(self) -> dict[str, Any]:
        """What has changed since the last news, for pages that had everything before."""
        frames = [figures.frame(seen.row, seen.at_ns) for seen in self.tally.changed(FRAMES_SHOWN)]
        new, self._picture_is_new = self._picture_is_new, False
        picture = {"picture": self._newest_picture()} if new else {}
        return {**self._state(), **picture, "news": self.tally.changed_levels(), "frames": frames}

    def _look_back(self) -> None:
        """What the last seconds were."""
        self._recent = self.tally.last_ns(NOW_NS)
        self._now = figures.now([(seen.at_ns, seen.row, seen.amounts) for seen in self._recent])
        self._drops = Counter(seen.row.status for seen in self._recent if seen.row.status in DROP_REASONS)
        self._unpaired = sum(bool(seen.row.values.get("unpaired")) for seen in self._recent)

    def _newest_picture(self) -> int | None:
        return self._pictures.number if self._pictures else None

    def _state(self) -> dict[str, Any]:
        facts, light = self._context.facts, judge(self._signs())
        return {
            "facts": {name: _plain(facts.get(name)) for name in FACTS},
            "origin_s": self.tally.axis.origin_ns / S,
            "edge_s": self._edge_ns() / S,
            "light": {"colour": light.colour, "word": light.word, "sentence": light.sentence},
            "now": self._now,
            "run": figures.run(self.tally.sums, self._counts(), self.tally.seconds(), facts),
            "gain": figures.side_gain(self.tally.both_ways.values()),
            "causes": self._causes(),
            "budget_kbps": self._budget_kbps(),
            "link": self._link(),
        }

    def _edge_ns(self) -> int:
        """Where the time axis ends: now for cameras, the newest frame whose bytes are known for recordings."""
        if self._context.facts.get("clock") != "wall" or self.tally.highest < 0:
            return self.tally.coded_ns
        return self.tally.axis.newest_ns + self._context.clock.monotonic_ns() - self._frame_ns

    def _signs(self) -> Signs:
        context, now_ns, recent = self._context, self._context.clock.monotonic_ns(), self._recent
        begun, pending = self.tally.highest >= 0, self._counts()[PENDING]
        # A source is not asked for more while the node is busy with what it has, or waits for the other one.
        heard_ns = context.heard_ns if self._relay else now_ns if pending else self._moved_ns if begun else None
        return Signs(
            peer="the encoder" if self._relay else "the source",
            quiet_ns=now_ns - (self._started_ns if heard_ns is None else heard_ns),
            ready=self._was_ready,
            heard=heard_ns is not None,
            still_ns=now_ns - self._moved_ns if begun else 0,
            pending=pending,
            sends=self._sends,
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
