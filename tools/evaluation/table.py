"""What was measured: a row for each picture, codec and quality, the means of a data set, and rd.csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import fmean
from types import TracebackType

__all__ = ["MEAN", "Curve", "Row", "RowFile", "curves_of", "means_of", "ms_ssim_in_db"]

MEAN = "mean"
"""What rows of means have in the column `image`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of rd.csv."""

    codec: str
    quality: str
    data: str
    image: str
    bpp: float
    psnr_db: float
    ms_ssim: float | None
    """0 to 1; None for pictures that are too small for it."""
    encode_ms: float
    decode_ms: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The means of a codec on a data set, by ascending rate."""

    codec: str
    data: str
    points: tuple[Row, ...]

    @property
    def bpp(self) -> list[float]:
        """Bits per pixel."""
        return [row.bpp for row in self.points]

    @property
    def psnr_db(self) -> list[float]:
        """Means of the pictures' PSNR."""
        return [row.psnr_db for row in self.points]

    @property
    def ms_ssim_db(self) -> list[float] | None:
        """Mean MS-SSIM in dB; None where it was not measured."""
        values = [row.ms_ssim for row in self.points if row.ms_ssim is not None]
        return [ms_ssim_in_db(value) for value in values] if len(values) == len(self.points) else None


def ms_ssim_in_db(value: float) -> float:
    """-10 log10(1 - MS-SSIM), at most 100."""
    return -10 * math.log10(max(1 - value, 1e-10))


def means_of(rows: Iterable[Row]) -> list[Row]:
    """One row for each codec, quality and data set, with the mean of its pictures; in order of appearance."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.codec, row.quality, row.data), []).append(row)
    return [_mean(*key, group) for key, group in groups.items()]


def curves_of(means: Iterable[Row]) -> list[Curve]:
    """The curves that rows of means make up; in order of appearance."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in means:
        groups.setdefault((row.codec, row.data), []).append(row)
    return [Curve(codec, data, tuple(sorted(g, key=lambda r: r.bpp))) for (codec, data), g in groups.items()]


class RowFile:
    """rd.csv, written line by line, so that what was measured is there however the run ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(field.name for field in fields(Row))

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows."""
        self._writer.writerows(list(_cells(row)) for row in rows)
        self._file.flush()


def _mean(codec: str, quality: str, data: str, rows: Sequence[Row]) -> Row:
    similarities = [row.ms_ssim for row in rows if row.ms_ssim is not None]
    return Row(
        codec,
        quality,
        data,
        MEAN,
        fmean(row.bpp for row in rows),
        fmean(row.psnr_db for row in rows),
        fmean(similarities) if len(similarities) == len(rows) else None,
        fmean(row.encode_ms for row in rows),
        fmean(row.decode_ms for row in rows),
    )


def _cells(row: Row) -> Iterator[str]:
    for value in astuple(row):
        yield "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
