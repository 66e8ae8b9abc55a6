"""A stream in figures: what one row of the ledger adds up to, and what sums of many rows mean.

The definitions are those of the report, so that the page and report.json agree: bits are those of real payloads, pixels
those of frames that were coded, and a bitrate is over the capture's own duration.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pipeline.ledger import OUT, PENDING, Row

__all__ = [
    "FIELDS",
    "WIRE",
    "amounts",
    "both_ways",
    "bucket",
    "frame",
    "known",
    "now",
    "run",
    "shown",
    "side_gain",
]

S = 1e9
RAW_BITS_PER_PIXEL = 24
ABSURD = 1e15
LEAST_BPP = 1e-6

FIELDS = 13
(
    FRAMES,
    DROPPED,
    UNPAIRED,
    WIRE,
    PAYLOAD,
    PIXELS,
    PSNR,
    PSNR_COUNT,
    MS_SSIM,
    MS_SSIM_COUNT,
    WITHOUT,
    WITH_SAMPLED,
    SAMPLED,
) = range(FIELDS)
"""Places in the amounts of a row, and in their sums."""

Amounts = Sequence[float]


def known(value: float | None) -> float | None:
    """A measurement, or None where there is none, or what another node claims can't be one."""
    return value if value is not None and abs(value) < ABSURD else None


def shown(text: object, most: int = 120) -> str:
    """Text from a peer or a file as a page may have it: one line of at most so many characters."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:most])


def amounts(row: Row, header_bytes: int | None) -> tuple[float, ...]:
    """What a row adds to the sums.

    `header_bytes`: what a packet's header takes, for frames whose bytes on the wire the sender has not told yet; None
    where nothing is sent.
    """
    values, sums = row.values, [0.0] * FIELDS
    payload, wire, bpp = (known(values.get(name)) for name in ("payload_bytes", "wire_bytes", "bpp"))
    if wire is None and payload is not None and header_bytes is not None:
        wire = payload + header_bytes
    sums[FRAMES] = 1.0
    sums[DROPPED] = float(row.status not in (OUT, PENDING))
    sums[UNPAIRED] = float(row.status == "unpaired" or bool(values.get("unpaired")))
    sums[WIRE], sums[PAYLOAD] = wire or 0.0, payload or 0.0
    sums[PIXELS] = 8 * payload / bpp if payload and bpp and bpp > LEAST_BPP else 0.0
    psnr, similarity = known(values.get("psnr_db")), known(values.get("ms_ssim"))
    if psnr is not None:
        sums[PSNR], sums[PSNR_COUNT] = psnr, 1.0
    if similarity is not None:
        sums[MS_SSIM], sums[MS_SSIM_COUNT] = similarity, 1.0
    without = known(values.get("psnr_without_side_db"))
    if without is not None:
        sums[WITHOUT], sums[WITH_SAMPLED], sums[SAMPLED] = without, psnr or 0.0, 1.0
    return tuple(sums)


def bucket(place: int, sums: Amounts) -> list[float | None]:
    """A bucket of the history for a page: place, frames, dropped, unpaired, bytes on the wire, mean PSNR."""
    psnr = _mean(sums[PSNR], sums[PSNR_COUNT])
    head = [round(sums[i]) for i in (FRAMES, DROPPED, UNPAIRED, WIRE)]
    return [place, *head, None if psnr is None else round(psnr, 3)]


def frame(row: Row, at_ns: int) -> list[float | str | None]:
    """A frame for a page: number, place in s, status, payload bytes, bpp, PSNR, PSNR without the side view, offset of
    the side view in ms, age in ms."""
    names = ("payload_bytes", "bpp", "psnr_db", "psnr_without_side_db", "side_offset_ms", "latency_ms")
    values = [known(row.values.get(name)) for name in names]
    return [row.number, round(at_ns / S, 3), row.status, *(None if v is None else float(f"{v:.6g}") for v in values)]


def now(rows: Sequence[tuple[int, Row, Amounts]]) -> dict[str, float | None]:
    """The last seconds in figures; `rows` are (place in ns, row, its amounts)."""
    sums = [sum(column) for column in zip(*(a for _, _, a in rows), strict=True)] or [0.0] * FIELDS
    seconds = _duration_s([at_ns for at_ns, _, a in rows if a[WIRE]])
    settled = sorted(v for _, row, _ in rows if (v := known(row.values.get("settled_s"))) is not None)
    ages = [v for _, row, _ in rows if (v := known(row.values.get("latency_ms"))) is not None]
    return {
        **_rates(sums, seconds),
        "psnr_db": _mean(sums[PSNR], sums[PSNR_COUNT]),
        "ms_ssim": _mean(sums[MS_SSIM], sums[MS_SSIM_COUNT]),
        "age_p95_ms": _p95(ages) if ages else None,
        "fps": (len(settled) - 1) / (settled[-1] - settled[0]) if settled and settled[-1] > settled[0] else None,
        "capture_fps": len(rows) / span if (span := _duration_s([at_ns for at_ns, _, _ in rows])) else None,
    }


def run(sums: Amounts, counts: Counter[str], seconds: float | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """All of it since the start, by the names of report.json."""
    drops = {reason: n for reason, n in sorted(counts.items()) if reason not in (OUT, PENDING)}
    return {
        "frames_in": counts.total(),
        "frames_out": counts[OUT],
        "pending": counts[PENDING],
        "drops": drops,
        "unpaired": round(sums[UNPAIRED]),
        "payload_bytes": round(sums[PAYLOAD]) or None,
        "wire_bytes": round(sums[WIRE]) or None,
        **_rates(sums, seconds),
        "psnr_db": _mean(sums[PSNR], sums[PSNR_COUNT]),
        "ms_ssim": _mean(sums[MS_SSIM], sums[MS_SSIM_COUNT]),
        "psnr_without_side_db": _mean(sums[WITHOUT], sums[SAMPLED]),
        "psnr_with_side_sampled_db": _mean(sums[WITH_SAMPLED], sums[SAMPLED]),
        "duration_s": seconds,
        "side_bytes": _whole(facts.get("side_bytes_on_wire")),
        "reference_bytes": _whole(facts.get("reference_bytes_on_wire")),
    }


def both_ways(row: Row) -> tuple[float, float] | None:
    """PSNR with and without the side view, of a frame that was decoded both ways and whose original is known."""
    with_side, without = (known(row.values.get(name)) for name in ("psnr_db", "psnr_without_side_db"))
    return None if with_side is None or without is None else (with_side, without)


def side_gain(both: Collection[tuple[float, float]]) -> dict[str, float | int | None]:
    """What the side view was worth on such frames, as means of PSNR in dB."""
    if not both:
        return {"samples": 0, "with_db": None, "without_db": None, "gain_db": None}
    with_side, without = (statistics.fmean(column) for column in zip(*both, strict=True))
    return {"samples": len(both), "with_db": with_side, "without_db": without, "gain_db": with_side - without}


def _rates(sums: Amounts, seconds: float | None) -> dict[str, float | None]:
    bpp = 8 * sums[PAYLOAD] / sums[PIXELS] if sums[PIXELS] else None
    return {
        "kbps": sums[WIRE] * 8 / 1000 / seconds if seconds and sums[WIRE] else None,
        "bpp": bpp,
        "ratio": RAW_BITS_PER_PIXEL / bpp if bpp else None,
    }


def _duration_s(stamps_ns: Iterable[int]) -> float | None:
    """From the first stamp to the last one, and the last frame's interval, which is the median one."""
    stamps = sorted(set(stamps_ns))
    if len(stamps) < 2:
        return None
    interval = statistics.median([after - before for before, after in itertools.pairwise(stamps)])
    return (stamps[-1] - stamps[0] + interval) / S


def _p95(values: Iterable[float]) -> float:
    """The 95th percentile as NumPy has it, which takes longer to begin than so few values take."""
    ordered = sorted(values)
    place = 0.95 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _mean(total: float, count: float) -> float | None:
    return total / count if count else None


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and abs(value) < ABSURD else None
