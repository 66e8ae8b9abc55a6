"""What a run was: report.json, frames.csv, the plot, and the last lines on the terminal.

All of it comes from the rows of the ledger and the facts of the context. What is not known is null in the files and
"unknown here" in sentences. Bits are those of real payloads, pixels those of frames that were coded, and the bitrate is
over the recording's own duration, not over the time that the run took.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SidecastError
from pipeline.latency import CAUSES, by_cause_ms
from pipeline.ledger import OUT, Row
from pipeline.stage import Context

__all__ = ["Report", "clear", "table", "write"]

UNKNOWN = "unknown here"
COLUMNS = (
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
FILES = ("report.json", "frames.csv", "plot.png", "plot.svg")
MADE = {"recording": "recording", "images": "images", "panel": "picture", "video": "video"}
"""Facts in which sinks say what they have written, and what that is called."""
FACTS = ("model", "model_id", "quality", "device", "encode_device", "width", "height", "expected_frames")

CAMERA_FACTS = ("reopened", "down_s", "drift_ms")


@dataclass(frozen=True)
class Report:
    """A run in numbers."""

    data: dict[str, Any]
    """What report.json holds."""
    files: dict[str, Path]
    """Where things are, by what they are: `report`, `table`, `plot`, and what sinks have put into the facts."""

    def summary_lines(self) -> list[str]:
        """The run in a few sentences; the last one is the one people quote."""
        data = self.data
        drops = ", ".join(f"{count} {reason}" for reason, count in data["drops"].items()) or "none dropped"
        lines = [
            f"frames: {data['frames_in']} in, {data['frames_out']} out, {drops}, {data['unpaired']} unpaired",
            f"speed: {_said(data['fps'], '.1f')} frames/s, latency "
            f"{_said(data['latency_ms']['p50'], '.0f')} ms (p50), {_said(data['latency_ms']['p95'], '.0f')} ms (p95)",
            *_latency_line(data["latency_by_cause_ms"]),
            *_camera_lines(data["cameras"]),
        ]
        if not data["complete"]:
            lines.append(f"this run is not complete: {data['error'] or 'the end of the stream never came'}")
        lines += [f"{name}: {path}" for name, path in self.files.items()]
        return [*lines, sentence(data)]


def write(context: Context, config_summary: dict[str, Any]) -> Report:
    """Write report.json, frames.csv, plot.png and plot.svg to `context.out`.

    Frames that are still on their way count as aborted. Raises SidecastError where the folder cannot be written.
    """
    from pipeline import plot  # matplotlib takes half a second, which no start should wait for

    context.ledger.drop_pending()
    rows = sorted(context.ledger.rows(), key=lambda row: row.frame_id)
    error = str(context.error) if context.error else None
    data = {**summarise(rows, context.facts, error), "config": config_summary}
    out = context.out
    figure = plot.draw(rows, _title(data))
    contents = (
        (json.dumps(data, indent=2, allow_nan=False) + "\n").encode(),
        frames_csv(rows).encode(),
        plot.render(figure, "png"),
        plot.render(figure, "svg"),
    )
    for name, content in zip(FILES, contents, strict=True):
        _replace(out / name, content)
    files = {"report": out / "report.json", "table": out / "frames.csv", "plot": out / "plot.png"}
    made = {MADE[fact]: Path(context.facts[fact]) for fact in MADE if context.facts.get(fact)}
    return Report(data, {**files, **made})


def clear(out: Path) -> None:
    """Remove an earlier run's report from a folder. Raises OSError where that is impossible."""
    for name in FILES:
        (out / name).unlink(missing_ok=True)


def summarise(rows: Sequence[Row], facts: Mapping[str, Any], error: str | None = None) -> dict[str, Any]:
    """The report's numbers, ready for JSON. `frames_in` is always `frames_out` and the drops together."""
    counts = Counter(row.status for row in rows)
    drops = {reason: count for reason, count in sorted(counts.items()) if reason != OUT}
    sampled = [row for row in rows if _finite(row.values.get("psnr_without_side_db")) is not None]
    return {
        "complete": bool(facts.get("complete", True)) and error is None and "aborted" not in drops,
        "error": error,
        "frames_in": len(rows),
        "frames_out": counts[OUT],
        "drops": drops,
        "unpaired": sum(row.status == "unpaired" or bool(row.values.get("unpaired")) for row in rows),
        "primary": _primary(rows, facts),
        "side": {
            "bytes_on_wire": _bytes_on_wire(rows, facts, "side"),
            "offset_ms": _spread(_values(rows, "side_offset_ms")),
        },
        "reference": {"bytes_on_wire": _bytes_on_wire(rows, facts, "reference")},
        "cameras": _cameras(facts),
        "psnr_db": _mean(_values(rows, "psnr_db")),
        "ms_ssim": _mean(_values(rows, "ms_ssim")),
        "psnr_without_side_db": _mean(_values(sampled, "psnr_without_side_db")),
        "psnr_with_side_sampled_db": _mean(_values(sampled, "psnr_db")),
        "fps": _fps(rows),
        "latency_ms": _percentiles(_values(rows, "latency_ms")),
        "latency_by_cause_ms": _latency_by_cause(rows),
        "stage_ms": {name: _percentiles(_values(rows, f"{name}_ms")) for name in _stages(rows)},
        "raw_mbps": _raw_mbps(rows, facts),
        "duration_s": duration_s(rows),
        **{name: facts.get(name) for name in FACTS},
    }


def sentence(data: Mapping[str, Any]) -> str:
    """One sentence with the numbers of a run, for people."""
    primary = data["primary"]
    size = f"{data['width']}x{data['height']}" if data["width"] and data["height"] else f"of a size {UNKNOWN}"
    return (
        f"primary view {size}: raw {_said(data['raw_mbps'], '.1f', 'Mbit/s')}, "
        f"sent {_said(primary['kbps'], '.1f', 'kbit/s')} ({_said(primary['bpp'], '.4f', 'bpp')}), {_quality(data)}"
    )


def _quality(data: Mapping[str, Any]) -> str:
    """Where both were measured, on the same frames; where no frame had a side view, it is not said to have one."""
    with_side, without = data["psnr_db"], data["psnr_without_side_db"]
    if without is not None:
        with_side = data["psnr_with_side_sampled_db"]
    elif with_side is not None and data["side"]["offset_ms"]["max"] is None:
        return f"PSNR {with_side:.2f} dB, without any side view"
    return f"PSNR with the side view {_said(with_side, '.2f', 'dB')}, without it {_said(without, '.2f', 'dB')}"


def table(reports: Mapping[str, Mapping[str, Any] | None]) -> str:
    """Several runs, one line each and their mean, as text.

    The keys name the runs, the values are `Report.data`, or None for a run that has none.
    """
    columns: dict[str, tuple[str, Callable[[Mapping[str, Any]], float | None]]] = {
        "in": ("d", lambda data: data["frames_in"]),
        "out": ("d", lambda data: data["frames_out"]),
        "bpp": (".4f", lambda data: data["primary"]["bpp"]),
        "kbit/s": (".1f", lambda data: data["primary"]["kbps"]),
        "PSNR dB": (".2f", lambda data: data["psnr_db"]),
        "without side dB": (".2f", lambda data: data["psnr_without_side_db"]),
        "MS-SSIM": (".4f", lambda data: data["ms_ssim"]),
        "fps": (".1f", lambda data: data["fps"]),
    }
    values = {name: [get(data) if data else None for _, get in columns.values()] for name, data in reports.items()}
    formats = [form for form, _ in columns.values()]
    lines = [["drive", *columns]]
    lines += [[name, *(_cell(v, f) for v, f in zip(row, formats, strict=True))] for name, row in values.items()]
    means = [_mean([v for v in column if v is not None]) for column in zip(*values.values(), strict=True)]
    lines.append(["mean", *(_cell(mean, f.replace("d", ".1f")) for mean, f in zip(means, formats, strict=True))])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    )


def frames_csv(rows: Iterable[Row]) -> str:
    """A line per frame that came in, with its status and its measurements; empty where there is none."""
    rows = list(rows)
    stages = [f"{name}_ms" for name in _stages(rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *stages])
    for row in rows:
        values = {**row.values, **{f"latency_{cause}_ms": ms for cause, ms in (by_cause_ms(row.values) or {}).items()}}
        measured = [_number(values.get(name)) for name in (*COLUMNS[3:], *stages)]
        writer.writerow([row.frame_id, row.pts_ns, row.status, *measured])
    return text.getvalue()


def duration_s(rows: Sequence[Row]) -> float | None:
    """How long the recording is: from the first stamp to the last one, and the last frame's interval.

    That interval is the median one. None for fewer than two frames.
    """
    stamps = sorted({row.pts_ns for row in rows if row.status != "unreadable"})
    if len(stamps) < 2:
        return None
    return float(stamps[-1] - stamps[0] + np.median(np.diff(stamps))) / 1e9


def _cameras(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the live sources say of themselves, by view; facts may come from another node, so they are looked at."""
    told = {view: facts.get(f"camera_{view}") for view in ("left", "right")}
    return {
        view: {"device": str(fact.get("device") or ""), **{name: _finite(fact.get(name)) for name in CAMERA_FACTS}}
        for view, fact in told.items()
        if isinstance(fact, Mapping)
    }


def _camera_lines(cameras: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What went wrong with the cameras."""
    return [
        f"camera {view}: {camera['down_s']:.1f} s without it, outages that ended: {_said(camera['reopened'], 'g')}"
        for view, camera in cameras.items()
        if camera["down_s"]
    ]


def _primary(rows: Sequence[Row], facts: Mapping[str, Any]) -> dict[str, float | None]:
    coded = [row for row in rows if row.values.get("payload_bytes")]
    payload, wire = _values(rows, "payload_bytes"), _values(rows, "wire_bytes")
    seconds = duration_s(rows)
    return {
        "payload_bytes": int(sum(payload)) if payload else None,
        "wire_bytes": int(sum(wire)) if wire else None,
        "bpp": _bpp(coded, facts),
        "kbps": sum(wire) * 8 / seconds / 1000 if wire and seconds else None,
    }


def _bpp(coded: Sequence[Row], facts: Mapping[str, Any]) -> float | None:
    """All payload bits over all pixels that they stand for."""
    size = (facts.get("width") or 0) * (facts.get("height") or 0)
    bits = [row.values["payload_bytes"] * 8 for row in coded]
    rates = [row.values.get("bpp") for row in coded]
    pixels = [b / rate if rate else size for b, rate in zip(bits, rates, strict=True)]
    return sum(bits) / sum(pixels) if pixels and all(pixels) else None


def _bytes_on_wire(rows: Sequence[Row], facts: Mapping[str, Any], role: str) -> int | None:
    """0 where a link carried the primary view only; None where there was no link."""
    if facts.get(f"{role}_bytes_on_wire") is not None:
        return int(facts[f"{role}_bytes_on_wire"])
    return 0 if _values(rows, "wire_bytes") else None


def _latency_by_cause(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Means and 95 % of each cause and of their sum, over the frames of which all causes are known."""
    known = [causes for row in rows if row.status == OUT and (causes := by_cause_ms(row.values)) is not None]
    if not known:
        return None
    columns: dict[str, list[float]] = {cause: [causes[cause] for causes in known] for cause in CAUSES}
    columns["sum"] = [sum(causes.values()) for causes in known]
    spreads = {name: {"mean": _mean(column), "p95": _percentiles(column)["p95"]} for name, column in columns.items()}
    return {"frames": len(known), **spreads}


def _latency_line(latency: Mapping[str, Any] | None) -> list[str]:
    if latency is None:
        return []
    parts = ", ".join(f"{cause} {latency[cause]['mean']:.0f}" for cause in CAUSES)
    return [f"latency by cause, mean: {parts}, together {latency['sum']['mean']:.0f} ms"]


def _raw_mbps(rows: Sequence[Row], facts: Mapping[str, Any]) -> float | None:
    seconds, frames = duration_s(rows), sum(row.status != "unreadable" for row in rows)
    if not (seconds and facts.get("width") and facts.get("height")):
        return None
    return float(facts["width"] * facts["height"] * 24 * frames / seconds / 1e6)


def _fps(rows: Sequence[Row]) -> float | None:
    """Frames out per second, from when the first one entered the last node until the last one left it.

    Not between the first that left and the last: where few frames wait behind a slow first one, that is a burst.
    """
    out = [row for row in rows if row.status == OUT]
    entered, settled = _values(out, "entered_s"), _values(out, "settled_s")
    span = max(settled) - min(entered) if entered and settled else 0.0
    return len(settled) / span if span > 0 else None


def _stages(rows: Iterable[Row]) -> list[str]:
    """The stages that were timed, in the order of the frames' way."""
    names = dict.fromkeys(name for row in rows for name in row.values if name.endswith("_ms"))
    return [name.removesuffix("_ms") for name in names if name not in COLUMNS]


def _values(rows: Iterable[Row], name: str) -> list[float]:
    found = (_finite(row.values.get(name)) for row in rows)
    return [value for value in found if value is not None]


def _finite(value: float | None) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p95": None}
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": float(p50), "p95": float(p95)}


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"min": min(values, default=None), **_percentiles(values), "max": max(values, default=None)}


def _number(value: float | None) -> str:
    """A measurement for the table: whole numbers whole, others to six digits."""
    if value is None or not math.isfinite(value):
        return ""
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def _said(value: float | None, form: str, unit: str = "") -> str:
    return UNKNOWN if value is None else f"{value:{form}} {unit}".rstrip()


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _title(data: Mapping[str, Any]) -> str:
    size = f"{data['width']}x{data['height']}" if data["width"] and data["height"] else ""
    quality = "" if data["quality"] is None else f"quality {data['quality']:g}"
    return ", ".join(filter(None, [str(data["model"] or ""), quality, size]))


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SidecastError(f"{path} cannot be written: {error.strerror}") from error
