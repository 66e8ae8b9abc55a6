"""One evaluation from the first picture to the last table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.log import Terminal
from pipeline.types import Pixels
from stages.picture import encode_png
from tools.evaluation.bd_rate import Delta, delta_of
from tools.evaluation.measure import Bench
from tools.evaluation.panels import alike, draw_panel
from tools.evaluation.progress import Progress
from tools.evaluation.samples import DataSet, Selection
from tools.evaluation.side import Worth, worth_of
from tools.evaluation.table import Curve, Row, RowFile, curves_of, means_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Session"]

ANCHOR = "hevc444"


@dataclass(slots=True)
class Session:
    """What is measured, and where the results go: rd.csv, rd.png, rd.svg, bd_rate.csv, side.csv, panels/."""

    data: list[DataSet]
    selection: Selection
    bench: Bench
    out: Path
    terminal: Terminal
    anchor: str | None = None
    """The codec that the others are compared with; None: HEVC 4:4:4 where it is there, else the first."""
    panels: int = 2
    """Pictures of each data set that a panel is made of."""
    log_rate: bool = True

    def run(self) -> list[str]:
        """Measure everything, write everything, and return the lines for the terminal."""
        anchor = self._anchor()
        self._prepare_out()
        for note in self._notes():
            self.terminal.line(note)
        rows = self._measure()
        means = means_of(rows)
        with RowFile(self.out / "rd.csv") as table:
            table.write([*rows, *means])
        curves = curves_of(means)
        deltas = [delta_of(curve, _curve(curves, anchor, curve.data)) for curve in curves]
        worth = list(worth_of(curves, self._models(), self.selection.sides))
        _write(self.out / "bd_rate.csv", Delta, deltas)
        if worth:
            _write(self.out / "side.csv", Worth, worth)
        self._plot(curves)
        made = ["rd.csv", "rd.png", "rd.svg", "bd_rate.csv", *(["side.csv"] if worth else []), "panels/"]
        return [*_lines(curves, deltas, anchor), *_worth_lines(worth), "", f"written to {self.out}: {', '.join(made)}"]

    def _models(self) -> list[str]:
        return [point.curve for point in self.bench.models]

    def _names(self) -> list[str]:
        """The curves that there will be."""
        skipped = self.bench.skipped(self.selection.sides)
        models = [name + side.suffix for name in dict.fromkeys(self._models()) for side in self.selection.sides]
        return [name for name in [*models, *(rival.name for rival in self.bench.rivals)] if name not in skipped]

    def _anchor(self) -> str:
        names = self._names()
        if not names:
            raise ConfigError("there is nothing to compare: give --models or --rivals that these side views allow")
        if self.anchor is None:
            return ANCHOR if ANCHOR in names else names[0]
        if self.anchor not in names:
            raise ConfigError(f"--anchor {self.anchor!r} is not among what is compared: {', '.join(names)}")
        return self.anchor

    def _prepare_out(self) -> None:
        try:
            (self.out / "panels").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--out {self.out} cannot be written: {error.strerror}") from error

    def _notes(self) -> list[str]:
        """What a reader of the results has to know."""
        notes = [
            f"{name} is left out: the model needs a side view" for name in self.bench.skipped(self.selection.sides)
        ]
        for data in self.data:
            if data.left_out:
                taken = len(data.samples)
                notes.append(
                    f"{data.name}: {taken} of {taken + data.left_out} pictures are taken, those that have a side view "
                    f"{self.selection.oldest} frames older, so that all side views are compared on the same ones"
                )
        return notes

    def _measure(self) -> list[Row]:
        rows: list[Row] = []
        progress = Progress(self.terminal, sum(len(data.samples) for data in self.data))
        with RowFile(self.out / "rd.csv") as table:  # as it comes, so that nothing is lost if the run is ended
            for data in self.data:
                chosen = _spread(len(data.samples), self.panels)
                for index, sample in enumerate(data.samples):
                    loaded = sample.load(self.selection)
                    measured = list(self.bench.measure(sample, loaded))
                    rows += [one.row for one in measured]
                    table.write(one.row for one in measured)
                    if index in chosen:
                        name = f"{data.name}, {sample.image}"
                        self._write_panel(name, draw_panel(name, loaded, alike(measured)))
                    progress.step(f"{data.name}, {sample.image}")
        progress.close()
        return rows

    def _write_panel(self, name: str, picture: Pixels) -> None:
        file = re.sub(r"[^\w.-]+", "-", name) + ".png"
        (self.out / "panels" / file).write_bytes(encode_png(picture))

    def _plot(self, curves: Sequence[Curve]) -> None:
        from pipeline.plot import render
        from tools.evaluation.plot import draw

        counts = ", ".join(f"{len(data.samples)} of {data.name}" for data in self.data)
        title = f"rate and quality, {self.selection.preprocess} pictures ({counts})"
        figure = draw(curves, self._models(), title, log_rate=self.log_rate)
        for form in ("png", "svg"):
            (self.out / f"rd.{form}").write_bytes(render(figure, form))


def _spread(count: int, most: int) -> set[int]:
    """At most so many indices, evenly spread."""
    return {(2 * i + 1) * count // (2 * most) for i in range(most)} if most else set()


def _curve(curves: Iterable[Curve], codec: str, data: str) -> Curve:
    return next(curve for curve in curves if (curve.codec, curve.data) == (codec, data))


def _write(path: Path, kind: type[DataclassInstance], rows: Iterable[DataclassInstance]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(kind))
        for row in rows:
            writer.writerow([f"{v:.3f}" if isinstance(v, float) else "" if v is None else v for v in astuple(row)])


def _lines(curves: Sequence[Curve], deltas: Sequence[Delta], anchor: str) -> list[str]:
    """The table for the terminal."""
    lines = []
    width = max(len(curve.codec) for curve in curves)
    single = dict.fromkeys(curve.codec for curve in curves if len(curve.points) == 1)
    for data in dict.fromkeys(curve.data for curve in curves):
        lines += ["", f"{data}: BD-rate against {anchor} (bytes at equal quality; less is better)"]
        lines.append(
            f"{'codec':<{width}}  {'PSNR':>9} {'MS-SSIM':>9}   {'bpp':>13} {'PSNR, dB':>13} {'enc/dec, ms':>13}"
        )
        for curve, delta in zip(curves, deltas, strict=True):
            if curve.data == data:
                changes = f"{_percent(delta.psnr_percent)} {_percent(delta.ms_ssim_percent)}"
                lines.append(f"{curve.codec:<{width}}  {changes}   {_ranges(curve)}")
    if anchor in single:
        lines.append(f"{anchor} has one point only, and there is no BD-rate against a point: choose another --anchor")
    elif single:
        lines.append(f"one point only, compared with {anchor} at its quality: {', '.join(single)}")
    return lines


def _ranges(curve: Curve) -> str:
    first, last = curve.points[0], curve.points[-1]
    middle = curve.points[len(curve.points) // 2]
    times = f"{middle.encode_ms:.0f}/{middle.decode_ms:.0f}"
    rates = f"{first.bpp:.3f} - {last.bpp:.3f}"
    return f"{rates:>13} {f'{first.psnr_db:.2f} - {last.psnr_db:.2f}':>13} {times:>13}"


def _percent(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:+7.1f} %"


def _worth_lines(worth: Sequence[Worth]) -> list[str]:
    return ["", "what the side view is worth:", *(one.sentence() for one in worth)] if worth else []
