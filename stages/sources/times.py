"""Capture times of recordings: what KITTI and tables of frames write, with holes filled in."""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from pipeline.errors import SourceError

__all__ = ["LATEST_NS", "TimedRow", "fill_times", "parse_time", "read_lines", "read_table", "times_of_frames"]

SECOND_NS = 1_000_000_000
LATEST_NS = 1 << 62
"""Times beyond it are refused: they travel as 64-bit numbers."""
_ID_COLUMNS = ("frame_id", "kitti_frame", "frame", "index")
_TIME_COLUMNS = ("timestamp", "time", "time_s", "seconds", "pts")


def parse_time(text: str) -> int | None:
    """ns of `2011-09-26 13:02:25.964389445` (since the Unix epoch, taken as UTC) or of seconds such as `1.04e-01`.

    None where the text is neither, or beyond what fits.
    """
    text = text.strip()
    if text[4:5] == "-" and text[10:11] in (" ", "T"):
        return _parse_date(text)
    try:
        seconds = float(text)
    except ValueError:
        return None
    if not math.isfinite(seconds) or abs(seconds) * SECOND_NS > LATEST_NS:
        return None
    return round(seconds * SECOND_NS)


def _parse_date(text: str) -> int | None:
    whole, _, fraction = text.replace("T", " ").partition(".")
    if fraction and not fraction.isdecimal():
        return None
    try:
        moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    time = int(moment.timestamp()) * SECOND_NS + int(fraction[:9].ljust(9, "0"))
    return time if abs(time) < LATEST_NS else None


def times_of_frames(lines: Sequence[str], ids: Sequence[int], fps: float) -> tuple[list[int], int]:
    """pts_ns for each frame of ascending `ids` from the lines of a times file, and how many had to be made up.

    Line i is frame i of the recording's own numbering where there are that many lines; a file cut to the frames that
    are present has one line for each of them instead.
    """
    known: list[int | None]
    if ids and len(lines) <= ids[-1] and len(_without_blank_end(lines)) == len(ids):
        known = [parse_time(line) for line in lines[: len(ids)]]
    else:
        known = [parse_time(lines[i]) if i < len(lines) else None for i in ids]
    return fill_times(known, ids, fps)


def fill_times(known: Sequence[int | None], ids: Sequence[int], fps: float) -> tuple[list[int], int]:
    """Ascending times: holes, and times that do not ascend, are interpolated by frame id or continued at `fps`."""
    kept: list[tuple[int, int]] = []
    for frame_id, time in zip(ids, known, strict=True):
        if time is not None and (not kept or time > kept[-1][1]):
            kept.append((frame_id, time))
    step = SECOND_NS / fps
    if not kept:
        return [round(i * step) for i in ids], len(ids)
    return [_time_at(i, kept, step) for i in ids], len(ids) - len(kept)


def _time_at(frame_id: int, kept: Sequence[tuple[int, int]], step: float) -> int:
    at = bisect_right(kept, (frame_id, LATEST_NS))
    if at == 0:
        return kept[0][1] - round((kept[0][0] - frame_id) * step)
    (id0, t0) = kept[at - 1]
    if id0 == frame_id:
        return t0
    if at == len(kept):
        return t0 + round((frame_id - id0) * step)
    (id1, t1) = kept[at]
    return t0 + (t1 - t0) * (frame_id - id0) // (id1 - id0)


def _without_blank_end(lines: Sequence[str]) -> Sequence[str]:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return lines[:end]


def read_lines(path: Path) -> list[str]:
    """The lines of a text file. Raises SourceError where it cannot be read as text."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class TimedRow:
    """One decoded frame of a video, by position in the table."""

    frame_id: int | None
    pts_ns: int


def read_table(path: Path) -> list[TimedRow]:
    """A row per decoded frame: a CSV file with a header that names a time column, or one time in seconds per line.

    Raises SourceError that names the line.
    """
    lines = [line for line in read_lines(path) if line.strip()]
    if not lines:
        raise SourceError(f"{path}: expected a time for each frame, found an empty file")
    if parse_time(lines[0]) is not None:
        rows = [TimedRow(None, _required(path, n, line)) for n, line in enumerate(lines, 1)]
    else:
        try:
            rows = _read_csv(path, lines)
        except csv.Error as error:
            raise SourceError(f"{path}: not a table ({error})") from error
    for n, (before, after) in enumerate(pairwise(rows), 2):
        if after.pts_ns <= before.pts_ns or (before.frame_id is not None and (after.frame_id or 0) <= before.frame_id):
            raise SourceError(f"{path}: times and frame numbers must ascend, row {n} does not")
    return rows


def _read_csv(path: Path, lines: Sequence[str]) -> list[TimedRow]:
    header = [name.strip().lower() for name in next(csv.reader(lines))]
    time_column = next((c for c in _TIME_COLUMNS if c in header), None)
    if time_column is None:
        raise SourceError(f"{path}: expected a column {' or '.join(_TIME_COLUMNS)}, found {', '.join(header)}")
    id_column = next((c for c in _ID_COLUMNS if c in header), None)
    rows = []
    for n, cells in enumerate(csv.reader(lines[1:]), 2):
        row = dict(zip(header, cells, strict=False))
        frame_id = None
        if id_column is not None:
            text = row.get(id_column, "").strip()
            if not (text.isdecimal() and len(text) < 10):
                raise SourceError(f"{path}: line {n}: expected a frame number in column {id_column}, found {text!r}")
            frame_id = int(text)
        rows.append(TimedRow(frame_id, _required(path, n, row.get(time_column, ""))))
    return rows


def _required(path: Path, line: int, text: str) -> int:
    time = parse_time(text)
    if time is None:
        raise SourceError(f"{path}: line {line}: expected a time, found {text!r}")
    return time
