"""A run over time in one picture: the bitrate above, the quality with and without the side view below.

Rows are added to a `Course`, which holds a point for each up to MOST_POINTS; of a longer run, points are means over
stretches of one duration. What is written in the legends is over all frames.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.row import OUT, Row

__all__ = ["Course", "draw", "figure_of", "render"]

Floats = NDArray[np.float64]

INK, MUTED, GRID = "#22303c", "#5f6f7d", "#e4e9ed"
RATE, WITH, WITHOUT, DROP = "#2a6f97", "#1b7f5c", "#c8702a", "#b3261e"
DENSE = 60
"""Above this many points a curve bears no markers."""
MOST_POINTS = 4096
"""More than the picture has columns."""


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    count: int = 0

    def add(self, value: float | None) -> bool:
        if value is None or not math.isfinite(value):
            return False
        self.total, self.count = self.total + value, self.count + 1
        return True

    def join(self, other: _Mean) -> None:
        self.total, self.count = self.total + other.total, self.count + other.count

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else math.nan


CURVES = ("payload_bytes", "psnr_db", "psnr_without_side_db")


@dataclass(slots=True)
class _Point:
    """A frame, or the means of some."""

    pts_ns: int
    means: tuple[_Mean, ...] = field(default_factory=lambda: tuple(_Mean() for _ in CURVES))
    dropped: int = 0

    def join(self, other: _Point) -> None:
        self.pts_ns, self.dropped = min(self.pts_ns, other.pts_ns), self.dropped + other.dropped
        for mean, more in zip(self.means, other.means, strict=True):
            mean.join(more)


class Course:
    """What a run was over time; its memory does not grow with the rows."""

    def __init__(self) -> None:
        self._points: dict[int, _Point] = {}
        """By their times, of which so many lowest bits are left out."""
        self._shift = 0
        self._step_s: float | None = None
        self.means = dict(zip(CURVES, (_Mean() for _ in CURVES), strict=True))
        """Over all frames."""
        self.compared = _Mean(), _Mean()
        """PSNR with and without the side view, of frames of which both are known."""
        self.bpp_per_byte: tuple[float, float] | None = None
        """The least and the most bits per pixel that a byte of payload was."""
        self.paired = False
        self.dropped = 0

    def add(self, row: Row) -> None:
        """Take in a row; the order does not matter."""
        at = row.pts_ns >> self._shift
        point = self._points.get(at)
        if point is None:
            point = self._points[at] = _Point(row.pts_ns)
        get = row.values.get
        for mean, (name, total) in zip(point.means, self.means.items(), strict=True):
            if mean.add(value := get(name)):
                total.add(value)
        if (without := get("psnr_without_side_db")) is not None:
            self._compare(get("psnr_db"), without)
        if row.status != OUT:
            point.dropped, self.dropped = point.dropped + 1, self.dropped + 1
        self.paired = self.paired or math.isfinite(get("side_offset_ms", math.nan))
        self._relate(get("payload_bytes"), get("bpp"))
        if len(self._points) > MOST_POINTS:
            self._thin()

    @property
    def step_s(self) -> float:
        """The recording's usual time between frames."""
        return self._median_step_s() if self._step_s is None else self._step_s

    @property
    def stretch_s(self) -> float | None:
        """What a point is the mean of; None where it is a frame."""
        return (1 << self._shift) / 1e9 if self._shift else None

    @property
    def points(self) -> list[_Point]:
        """In order of time."""
        return [self._points[at] for at in sorted(self._points)]

    def seconds(self) -> Floats:
        """Where the points are, from the first one on."""
        times = [point.pts_ns for point in self.points]
        return np.array([(time - times[0]) / 1e9 for time in times])

    def curve(self, name: str) -> Floats:
        """The values at the points; NaN where there are none."""
        place = CURVES.index(name)
        return np.array([point.means[place].value for point in self.points])

    def drops(self) -> NDArray[np.bool_]:
        """The points at which frames were dropped."""
        return np.array([point.dropped > 0 for point in self.points], dtype=bool)

    def _compare(self, with_side: float | None, without: float) -> None:
        if with_side is not None and math.isfinite(with_side) and math.isfinite(without):
            self.compared[0].add(with_side)
            self.compared[1].add(without)

    def _relate(self, payload: float | None, bpp: float | None) -> None:
        if payload and bpp is not None and math.isfinite(bpp):
            low, high = self.bpp_per_byte or (math.inf, -math.inf)
            self.bpp_per_byte = min(low, bpp / payload), max(high, bpp / payload)

    def _median_step_s(self) -> float:
        steps = np.diff(sorted(self._points))
        return float(np.median(steps)) / 1e9 if len(steps) else 1.0

    def _thin(self) -> None:
        """Join neighbours until half as many points are left."""
        if self._step_s is None:
            self._step_s = self._median_step_s()
        while len(self._points) > MOST_POINTS // 2:
            self._shift += 1
            points, self._points = self._points, {}
            for at, point in points.items():
                if (joined := self._points.setdefault(at >> 1, point)) is not point:
                    joined.join(point)


def draw(rows: Iterable[Row], title: str = "") -> Figure:
    """The figure of a run from its ledger's rows; what was not measured is said where it would stand."""
    course = Course()
    for row in rows:
        course.add(row)
    return figure_of(course, title)


def figure_of(course: Course, title: str = "") -> Figure:
    """The figure of a run from what its rows came to."""
    figure = Figure(figsize=(10, 6.2), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.15])
    seconds = course.seconds()
    _style(above, "bitrate, kbit/s")
    _style(below, "PSNR, dB")
    _draw_rate(above, course, seconds)
    _draw_quality(below, course, seconds)
    for axes in (above, below):
        _mark_drops(axes, course, seconds)
        _limits(axes, course.step_s, seconds)
    _legends(above, below)
    below.set_xlabel("time in the recording, s", color=INK)
    figure.suptitle(title or "one run over time", x=0.012, ha="left", color=INK, fontsize=12, fontweight="bold")
    return figure


def render(figure: Figure, form: str) -> bytes:
    """The figure as the bytes of a `png` or `svg` file, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()


def _style(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, color=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelcolor=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)


def _curve(axes: Axes, seconds: Floats, values: Floats, color: str, label: str, **style: Any) -> None:
    known = np.isfinite(values)
    marker = "o" if known.sum() <= DENSE else None
    axes.plot(seconds[known], values[known], color=color, label=label, marker=marker, markersize=3.5, **style)


def _draw_rate(axes: Axes, course: Course, seconds: Floats) -> None:
    payload = course.curve("payload_bytes")
    if not np.isfinite(payload).any():
        _say(axes, "no payloads: nothing was coded in this run")
        return
    kbps_per_byte = 8 / course.step_s / 1000
    rate = payload * kbps_per_byte
    label = f"payload, means over {course.stretch_s:.2g} s" if course.stretch_s else "payload of each frame"
    _curve(axes, seconds, rate, RATE, label, linewidth=1.6)
    mean = course.means["payload_bytes"].value * kbps_per_byte
    axes.axhline(mean, color=RATE, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7, label=f"mean {mean:.0f} kbit/s")
    axes.set_ylim(0, float(np.nanmax(rate)) * 1.18 or 1)
    if course.bpp_per_byte is not None:
        _add_bpp(axes, *course.bpp_per_byte, kbps_per_byte)


def _add_bpp(axes: Axes, least: float, most: float, kbps_per_byte: float) -> None:
    """A second scale on the right: the same curve in bits per pixel, where all frames have one size."""
    if most - least > 1e-3 * least:
        return
    ratio = least / kbps_per_byte
    right = axes.secondary_yaxis("right", functions=(_times(ratio), _times(1 / ratio)))
    right.set_ylabel("bits per pixel", color=INK)
    right.tick_params(colors=MUTED, labelcolor=INK, length=3)
    right.spines["right"].set_color(MUTED)


def _times(factor: float) -> Callable[[Any], Any]:
    return lambda values: np.asarray(values) * factor


def _draw_quality(axes: Axes, course: Course, seconds: Floats) -> None:
    with_side, without = course.curve("psnr_db"), course.curve("psnr_without_side_db")
    if not np.isfinite(with_side).any():
        _say(axes, "PSNR is unknown here: the decoder has no originals")
        return
    label = f"{'with the' if course.paired else 'without any'} side view, mean {course.means['psnr_db'].value:.2f} dB"
    _curve(axes, seconds, with_side, WITH, label, linewidth=1.6)
    sampled = np.isfinite(without) & np.isfinite(with_side)
    compared, alone = course.compared
    if compared.count:
        frames = "1 frame" if compared.count == 1 else f"{compared.count} frames"
        label = f"without it, mean {alone.value:.2f} dB ({frames}, {compared.value - alone.value:.2f} dB less)"
        _curve(axes, seconds, np.where(sampled, without, np.nan), WITHOUT, label, linewidth=1.3, linestyle=(0, (5, 2)))
    low, high = np.nanmin([with_side, without]), np.nanmax([with_side, without])
    room = max(0.12 * (high - low), 0.5)
    axes.set_ylim(low - room, high + 2.2 * room)


def _mark_drops(axes: Axes, course: Course, seconds: Floats) -> None:
    if course.dropped:
        label = f"{course.dropped} frames dropped" if course.dropped > 1 else "1 frame dropped"
        at = seconds[course.drops()]
        line = axes.vlines(at, 0, 1, transform=axes.get_xaxis_transform(), color=DROP, linewidth=1, alpha=0.45)
        line.set_label(label)


def _limits(axes: Axes, step_s: float, seconds: Floats) -> None:
    last = float(seconds.max()) if len(seconds) else 0.0
    axes.set_xlim(-step_s / 2, last + step_s / 2)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(10, steps=[1, 2, 5, 10]))


def _legends(*all_axes: Axes) -> None:
    box = {"frameon": True, "fancybox": False, "framealpha": 0.85, "facecolor": "white", "edgecolor": "none"}
    room = {"borderaxespad": 0.2, "borderpad": 0.3, "handlelength": 1.8}
    for axes in all_axes:
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="upper left", ncols=3, fontsize=9, labelcolor=INK, **box, **room)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set_yticks([])
