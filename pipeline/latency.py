"""Where the time of a frame went between its capture and the last stage: six causes, whose sum is its latency.

    taken      the head yields        `encode` yields        arrives           `decode` yields       through
      |---- capture ----|------- encode -------|---- network ----|-- pair --|-- decode --|--- show ----|

Every stage has a cause, its own or that of the stage before it, and is charged with a frame from when the frame waits
for it until it yields it. A stage that cannot take the next frame because nobody takes the last one from it is not to
blame for the wait, but the one that holds it up (`Holdups`). `network` is all that lies between the two nodes, less the
wait for credit while the decoder's node could not take any more.

Within a node time is measured by the monotonic clock. Between `taken_ns` and the first node's head, and between the
nodes, there are only stamps of wall clocks: the encoder's estimate of their offset stands in every packet.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["CAUSES", "Cause", "Holdups", "by_cause_ms", "table_ms"]

Cause = Literal["capture", "pair", "encode", "network", "decode", "show"]
"""capture: from taking until the chain has the frame. pair: waiting for its side view. network: from leaving the
encoder's node to arriving at the decoder's. show: whatever comes behind decoding."""

CAUSES: tuple[Cause, ...] = get_args(Cause)

SHORTEST_HOLDUP_NS = 50_000
"""What a channel takes that has room."""
PERIODS = 256


class Holdups:
    """When a stage had to wait until it could hand on what it had, and what it waited for.

    Every method may be called from any thread.
    """

    def __init__(self, cause: Cause) -> None:
        self.cause = cause
        """What this stage itself is charged for."""
        self._periods: deque[tuple[int, int, Cause]] = deque(maxlen=PERIODS)
        self._lock = threading.Lock()

    def held_up(self, begin_ns: int, end_ns: int, by: Holdups) -> None:
        """The next stage took nothing for so long; where that was held up itself, the blame goes further.

        What another thread of this stage has said of the same time stands.
        """
        if end_ns - begin_ns < SHORTEST_HOLDUP_NS:
            return
        with self._lock:
            at = max(begin_ns, self._periods[-1][1]) if self._periods else begin_ns
            for begin, end, cause in by._within(at, end_ns):
                if begin > at:
                    self._periods.append((at, begin, by.cause))
                self._periods.append((begin, end, cause))
                at = end
            if end_ns > at:
                self._periods.append((at, end_ns, by.cause))

    def split(self, begin_ns: int, end_ns: int) -> Counter[Cause]:
        """What a frame was kept by that waited for this stage, ns by cause; together the whole time."""
        spent: Counter[Cause] = Counter()
        for begin, end, cause in self._within(begin_ns, end_ns):
            spent[cause] += end - begin
        spent[self.cause] += end_ns - begin_ns - spent.total()
        return spent

    def _within(self, begin_ns: int, end_ns: int) -> list[tuple[int, int, Cause]]:
        cut = ((max(begin, begin_ns), min(end, end_ns), cause) for begin, end, cause in tuple(self._periods))
        return [(begin, end, cause) for begin, end, cause in cut if begin < end]


def by_cause_ms(values: Mapping[str, float]) -> dict[Cause, float] | None:
    """The latency of a frame by cause, ms, from the values of its row in the ledger; the sum is `latency_ms`.

    None for a frame that is not through, or of which the encoder's node has not told its part.
    """
    if not any(f"spent_{cause}_s" in values for cause in CAUSES):
        return None
    sender_s = {cause: values.get(f"sender_{cause}_s") for cause in CAUSES}
    spent_s = {cause: values.get(f"spent_{cause}_s", 0.0) + (sender_s[cause] or 0.0) for cause in CAUSES}
    if (arrival_s := values.get("arrival_s")) is not None:
        if all(seconds is None for seconds in sender_s.values()):
            return None
        spent_s["network"] += arrival_s - sum(seconds or 0.0 for seconds in sender_s.values())
        held_s = {cause: values.get(f"held_{cause}_s", 0.0) for cause in CAUSES}
        spent_s = {cause: spent_s[cause] + held_s[cause] for cause in CAUSES}
        spent_s["network"] -= sum(held_s.values())
    return {cause: seconds * 1000 for cause, seconds in spent_s.items()}


def table_ms(frames: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """`by_cause_ms` of many frames, as (frames, causes) float64; NaN where it is None. Takes a fifth of the time."""

    def seconds(part: str) -> NDArray[np.float64]:
        names = [f"{part}_{cause}_s" for cause in CAUSES]
        return np.array([[get(name, np.nan) for get in gets] for name in names], dtype=np.float64).T

    gets = [values.get for values in frames]
    spent, sender, held = seconds("spent"), seconds("sender"), np.nan_to_num(seconds("held"))
    arrival = np.array([get("arrival_s", np.nan) for get in gets], dtype=np.float64)
    relayed = ~np.isnan(arrival)
    total = np.nan_to_num(spent) + np.nan_to_num(sender) + held * relayed[:, None]
    on_the_way = arrival - np.nan_to_num(sender).sum(1) - held.sum(1)
    total[:, CAUSES.index("network")] += np.where(relayed, on_the_way, 0.0)
    total[~(np.isfinite(spent).any(1) & (~relayed | np.isfinite(sender).any(1)))] = np.nan
    return np.asarray(total * 1000)
