"""The report's numbers, from the rows of a ledger and the facts of a run.

Bits are those of real payloads, pixels those of frames that were coded, and the bitrate is over the recording's own
duration, not over the time that the run took.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from pipeline.columns import Column, column, pieces
from pipeline.latency import CAUSES, table_ms
from pipeline.row import OUT, Row

__all__ = ["FRAME_COLUMNS", "stage_names", "summarise"]

FRAME_COLUMNS = (
    "frame_id",
    "pts_ns",
    "status",
    "payload_bytes",
    "bpp",
    "psnr_db",
    "ms_ssim",
    "psnr_without_side_db",
    "side_offset_ms",
    "latency_ms",
    *(f"latency_{cause}_ms" for cause in CAUSES),
)
FACTS = ("model", "model_id", "quality", "device", "encode_device", "width", "height", "expected_frames")
CAMERA_FACTS = ("reopened", "down_s", "drift_ms")
MEASURED = ("payload_bytes", "wire_bytes", "psnr_db", "ms_ssim", "psnr_without_side_db")
S = 1e9


def summarise(rows: Iterable[Row], facts: Mapping[str, Any], error: str | None = None) -> dict[str, Any]:
    """The report's numbers, ready for JSON. `frames_in` is always `frames_out` and the drops together."""
    sums = _Sums(facts)
    for piece in pieces(rows):
        sums.add(piece)
    columns, seconds = sums.columns, sums.duration_s()
    drops = {reason: count for reason, count in sorted(sums.counts.items()) if reason != OUT}
    return {
        "complete": bool(facts.get("complete", True)) and error is None and "aborted" not in drops,
        "error": error,
        "frames_in": sums.counts.total(),
        "frames_out": sums.counts[OUT],
        "drops": drops,
        "unpaired": sums.unpaired,
        "primary": _primary(sums, seconds),
        "side": {
            "bytes_on_wire": _bytes_on_wire(columns, facts, "side"),
            "offset_ms": _spread(columns["side_offset_ms"]),
        },
        "reference": {"bytes_on_wire": _bytes_on_wire(columns, facts, "reference")},
        "cameras": _cameras(facts),
        "psnr_db": columns["psnr_db"].mean,
        "ms_ssim": columns["ms_ssim"].mean,
        "psnr_without_side_db": columns["psnr_without_side_db"].mean,
        "psnr_with_side_sampled_db": sums.sampled.mean,
        "fps": sums.fps(),
        "latency_ms": _percentiles(columns["latency_ms"]),
        "latency_by_cause_ms": _latency_by_cause(sums.causes),
        "stage_ms": {name: _percentiles(columns[f"{name}_ms"]) for name in stage_names(sums.names)},
        "raw_mbps": _raw_mbps(sums, facts, seconds),
        "duration_s": seconds,
        **{name: facts.get(name) for name in FACTS},
    }


def stage_names(names: Iterable[str]) -> list[str]:
    """The stages that were timed, of these names of measurements."""
    return [name.removesuffix("_ms") for name in names if name.endswith("_ms") and name not in FRAME_COLUMNS]


class _Sums:
    """All that is added up over the rows."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._frame_pixels = (facts.get("width") or 0) * (facts.get("height") or 0)
        self.counts: Counter[str] = Counter()
        self.names: dict[str, None] = {}
        """Of all measurements, in the order of the frames' way."""
        self.columns: defaultdict[str, Column] = defaultdict(Column)
        self.causes: defaultdict[str, Column] = defaultdict(Column)
        """Of latency, and their sum; of the frames of which all are known."""
        self.sampled = Column()
        """PSNR with the side view, of the frames that were decoded without it too."""
        self.unpaired = 0
        self.bits = self.pixels = 0.0
        self.sizes_known = True
        self._entered, self._settled, self._steps_ns = Column(), Column(), Column()
        self._span_ns: tuple[int, int] | None = None

    def add(self, rows: Sequence[Row]) -> None:
        self.counts.update(row.status for row in rows)
        self.unpaired += sum(row.status == "unpaired" or bool(row.values.get("unpaired")) for row in rows)
        self.names.update(dict.fromkeys(chain.from_iterable(row.values for row in rows)))
        measured = {name: column(rows, name) for name in self.names if name in MEASURED or name.endswith("_ms")}
        for name, values in measured.items():
            self.columns[name].add(values)
        if "psnr_db" in measured and "psnr_without_side_db" in measured:
            self.sampled.add(measured["psnr_db"][np.isfinite(measured["psnr_without_side_db"])])
        self._add_sizes(rows)
        self._add_times([row.pts_ns for row in rows if row.status != "unreadable"])
        self._add_out([row for row in rows if row.status == OUT])

    def duration_s(self) -> float | None:
        """How long the recording is: from the first stamp to the last one, and the last frame's interval.

        That interval is the median one. None for fewer than two frames.
        """
        step_ns = self._steps_ns.percentile(50)
        if self._span_ns is None or step_ns is None:
            return None
        return (self._span_ns[1] - self._span_ns[0] + step_ns) / S

    def fps(self) -> float | None:
        """Frames out per second, from when the first one entered the last node until the last one left it.

        Not between the first that left and the last: where few frames wait behind a slow first one, that is a burst.
        """
        if self._entered.min is None or self._settled.max is None:
            return None
        span = self._settled.max - self._entered.min
        return self._settled.count / span if span > 0 else None

    def _add_sizes(self, rows: Sequence[Row]) -> None:
        """Payload bits, and all pixels that they stand for."""
        for row in rows:
            if payload := row.values.get("payload_bytes"):
                rate = row.values.get("bpp")
                pixels = payload * 8 / rate if rate else self._frame_pixels
                self.bits += payload * 8
                self.pixels += pixels
                self.sizes_known = self.sizes_known and bool(pixels)

    def _add_times(self, stamps_ns: Sequence[int]) -> None:
        if not stamps_ns:
            return
        ordered = sorted(set(stamps_ns))
        self._steps_ns.add(np.diff(np.array(ordered, dtype=np.int64)).astype(np.float64))
        first_ns, last_ns = self._span_ns or (ordered[0], ordered[0])
        if last_ns < ordered[0] and self._span_ns:
            self._steps_ns.add(np.array([float(ordered[0] - last_ns)]))
        self._span_ns = min(first_ns, ordered[0]), max(last_ns, ordered[-1])

    def _add_out(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        self._entered.add(column(rows, "entered_s"))
        self._settled.add(column(rows, "settled_s"))
        spent_ms = table_ms([row.values for row in rows])
        spent_ms = spent_ms[np.isfinite(spent_ms).all(1)]
        if len(spent_ms):
            for cause, values in zip(CAUSES, spent_ms.T, strict=True):
                self.causes[cause].add(values)
            self.causes["sum"].add(spent_ms.sum(1))


def _primary(sums: _Sums, seconds: float | None) -> dict[str, float | None]:
    payload, wire = sums.columns["payload_bytes"], sums.columns["wire_bytes"]
    return {
        "payload_bytes": int(payload.total) if payload.count else None,
        "wire_bytes": int(wire.total) if wire.count else None,
        "bpp": sums.bits / sums.pixels if sums.pixels and sums.sizes_known else None,
        "kbps": wire.total * 8 / seconds / 1000 if wire.count and seconds else None,
    }


def _bytes_on_wire(columns: Mapping[str, Column], facts: Mapping[str, Any], role: str) -> int | None:
    """0 where a link carried the primary view only; None where there was no link."""
    if facts.get(f"{role}_bytes_on_wire") is not None:
        return int(facts[f"{role}_bytes_on_wire"])
    return 0 if columns["wire_bytes"].count else None


def _cameras(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the live sources say of themselves, by view; facts may come from another node, so they are looked at."""
    told = {view: facts.get(f"camera_{view}") for view in ("left", "right")}
    return {
        view: {"device": str(fact.get("device") or ""), **{name: _finite(fact.get(name)) for name in CAMERA_FACTS}}
        for view, fact in told.items()
        if isinstance(fact, Mapping)
    }


def _latency_by_cause(causes: Mapping[str, Column]) -> dict[str, Any] | None:
    """Means and 95 % of each cause and of their sum."""
    if not causes:
        return None
    spreads = {name: {"mean": known.mean, "p95": known.percentile(95)} for name, known in causes.items()}
    return {"frames": causes["sum"].count, **spreads}


def _raw_mbps(sums: _Sums, facts: Mapping[str, Any], seconds: float | None) -> float | None:
    frames = sums.counts.total() - sums.counts["unreadable"]
    if not (seconds and facts.get("width") and facts.get("height")):
        return None
    return float(facts["width"] * facts["height"] * 24 * frames / seconds / 1e6)


def _finite(value: float | None) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _percentiles(values: Column) -> dict[str, float | None]:
    return {"p50": values.percentile(50), "p95": values.percentile(95)}


def _spread(values: Column) -> dict[str, float | None]:
    return {"min": values.min, **_percentiles(values), "max": values.max}
