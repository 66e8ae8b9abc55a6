"""What a run was: report.json, frames.csv, the plot, and the last lines on the terminal.

All of it comes from the rows of the ledger and the facts of the context; `pipeline.summary` has the numbers. What is
not known is null in the files and "unknown here" in sentences. Rows are read twice and never all at once.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.columns import pieces
from pipeline.errors import SidecastError
from pipeline.latency import CAUSES, table_ms
from pipeline.row import Row
from pipeline.stage import Context
from pipeline.summary import FRAME_COLUMNS, summarise

if TYPE_CHECKING:
    from pipeline.plot import Course

__all__ = ["Report", "clear", "table", "write"]

UNKNOWN = "unknown here"
FILES = ("report.json", "frames.csv", "plot.png", "plot.svg")
MADE = {"recording": "recording", "images": "images", "panel": "picture", "video": "video"}
"""Facts in which sinks say what they have written, and what that is called."""


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
    error = str(context.error) if context.error else None
    course = plot.Course()
    rows = _drawn(context.ledger.by_frame_id(), course)
    data = {**summarise(rows, context.facts, error), "config": config_summary}
    out = context.out
    figure = plot.figure_of(course, _title(data))
    _replace(out / "report.json", [(json.dumps(data, indent=2, allow_nan=False) + "\n").encode()])
    _replace(out / "frames.csv", (line.encode() for line in frames_csv(context.ledger.by_frame_id(), data["stage_ms"])))
    for form in ("png", "svg"):
        _replace(out / f"plot.{form}", [plot.render(figure, form)])
    files = {"report": out / "report.json", "table": out / "frames.csv", "plot": out / "plot.png"}
    made = {MADE[fact]: Path(context.facts[fact]) for fact in MADE if context.facts.get(fact)}
    return Report(data, {**files, **made})


def clear(out: Path) -> None:
    """Remove an earlier run's report from a folder. Raises OSError where that is impossible."""
    for name in FILES:
        (out / name).unlink(missing_ok=True)


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


def frames_csv(rows: Iterable[Row], stages: Iterable[str]) -> Iterator[str]:
    """A line per frame that came in, by frame_id, with its status and its measurements; empty where there is none."""
    columns = (*FRAME_COLUMNS, *(f"{name}_ms" for name in stages))
    head = io.StringIO()
    csv.writer(head, lineterminator="\n").writerow(columns)  # another node may call its stages anything
    yield head.getvalue()
    before, after = FRAME_COLUMNS[3 : -len(CAUSES)], columns[len(FRAME_COLUMNS) :]
    for piece in pieces(rows):
        spent_ms = table_ms([row.values for row in piece]).tolist()
        for row, spent in zip(piece, spent_ms, strict=True):
            get = row.values.get
            numbers = [*map(get, before), *spent, *map(get, after)]
            yield f"{row.frame_id},{row.pts_ns},{row.status},{','.join(map(_number, numbers))}\n"


def _drawn(rows: Iterable[Row], course: Course) -> Iterator[Row]:
    """The rows, which leave their marks on the course that is plotted."""
    for row in rows:
        course.add(row)
        yield row


def _camera_lines(cameras: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What went wrong with the cameras."""
    return [
        f"camera {view}: {camera['down_s']:.1f} s without it, outages that ended: {_said(camera['reopened'], 'g')}"
        for view, camera in cameras.items()
        if camera["down_s"]
    ]


def _latency_line(latency: Mapping[str, Any] | None) -> list[str]:
    if latency is None:
        return []
    parts = ", ".join(f"{cause} {latency[cause]['mean']:.0f}" for cause in CAUSES)
    return [f"latency by cause, mean: {parts}, together {latency['sum']['mean']:.0f} ms"]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


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


def _replace(path: Path, content: Iterable[bytes]) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.writelines(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SidecastError(f"{path} cannot be written: {error.strerror}") from error
