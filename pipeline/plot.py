"""A run over time in one picture: the bitrate above, the quality with and without the side view below."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.ledger import OUT, Row

__all__ = ["draw", "render"]

Floats = NDArray[np.float64]

INK, MUTED, GRID = "#22303c", "#5f6f7d", "#e4e9ed"
RATE, WITH, WITHOUT, DROP = "#2a6f97", "#1b7f5c", "#c8702a", "#b3261e"
DENSE = 60
"""Above this many points a curve bears no markers."""


def draw(rows: Sequence[Row], title: str = "") -> Figure:
    """The figure of a run from its ledger's rows; what was not measured is said where it would stand."""
    rows = sorted(rows, key=lambda row: row.pts_ns)
    figure = Figure(figsize=(10, 6.2), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.15])
    seconds = _seconds(rows)
    _style(above, "bitrate, kbit/s")
    _style(below, "PSNR, dB")
    _draw_rate(above, rows, seconds)
    _draw_quality(below, rows, seconds)
    for axes in (above, below):
        _mark_drops(axes, rows, seconds)
        _limits(axes, seconds)
    _legends(above, below)
    below.set_xlabel("time in the recording, s", color=INK)
    figure.suptitle(title or "one run over time", x=0.012, ha="left", color=INK, fontsize=12, fontweight="bold")
    return figure


def render(figure: Figure, form: str) -> bytes:
    """The figure as the bytes of a `png` or `svg` file, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()


def _seconds(rows: Sequence[Row]) -> Floats:
    start = min((row.pts_ns for row in rows), default=0)
    return np.array([(row.pts_ns - start) / 1e9 for row in rows])


def _interval(seconds: Floats) -> float:
    """The recording's usual time between frames, s."""
    steps = np.diff(np.unique(seconds))
    return float(np.median(steps)) if len(steps) else 1.0


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


def _column(rows: Sequence[Row], name: str) -> Floats:
    values = np.array([row.values.get(name, np.nan) for row in rows], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _draw_rate(axes: Axes, rows: Sequence[Row], seconds: Floats) -> None:
    payload = _column(rows, "payload_bytes")
    if not np.isfinite(payload).any():
        _say(axes, "no payloads: nothing was coded in this run")
        return
    rate = payload * 8 / _interval(seconds) / 1000
    _curve(axes, seconds, rate, RATE, "payload of each frame", linewidth=1.6)
    mean = float(np.nanmean(rate))
    axes.axhline(mean, color=RATE, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7, label=f"mean {mean:.0f} kbit/s")
    axes.set_ylim(0, float(np.nanmax(rate)) * 1.18 or 1)
    _add_bpp(axes, payload, rate, _column(rows, "bpp"))


def _add_bpp(axes: Axes, payload: Floats, rate: Floats, bpp: Floats) -> None:
    """A second scale on the right: the same curve in bits per pixel, where all frames have one size."""
    known = np.isfinite(bpp) & (payload > 0)
    ratios = bpp[known] / rate[known]
    if not len(ratios) or np.ptp(ratios) > 1e-3 * ratios[0]:
        return
    ratio = float(ratios[0])
    right = axes.secondary_yaxis("right", functions=(_times(ratio), _times(1 / ratio)))
    right.set_ylabel("bits per pixel", color=INK)
    right.tick_params(colors=MUTED, labelcolor=INK, length=3)
    right.spines["right"].set_color(MUTED)


def _times(factor: float) -> Callable[[Any], Any]:
    return lambda values: np.asarray(values) * factor


def _draw_quality(axes: Axes, rows: Sequence[Row], seconds: Floats) -> None:
    with_side, without = _column(rows, "psnr_db"), _column(rows, "psnr_without_side_db")
    if not np.isfinite(with_side).any():
        _say(axes, "PSNR is unknown here: the decoder has no originals")
        return
    paired = np.isfinite(_column(rows, "side_offset_ms")).any()
    label = f"{'with the' if paired else 'without any'} side view, mean {np.nanmean(with_side):.2f} dB"
    _curve(axes, seconds, with_side, WITH, label, linewidth=1.6)
    sampled = np.isfinite(without) & np.isfinite(with_side)
    if sampled.any():
        gain = np.mean(with_side[sampled] - without[sampled])
        frames = "1 frame" if sampled.sum() == 1 else f"{sampled.sum()} frames"
        label = f"without it, mean {np.mean(without[sampled]):.2f} dB ({frames}, {gain:.2f} dB less)"
        _curve(axes, seconds, np.where(sampled, without, np.nan), WITHOUT, label, linewidth=1.3, linestyle=(0, (5, 2)))
    low, high = np.nanmin([with_side, without]), np.nanmax([with_side, without])
    room = max(0.12 * (high - low), 0.5)
    axes.set_ylim(low - room, high + 2.2 * room)


def _mark_drops(axes: Axes, rows: Sequence[Row], seconds: Floats) -> None:
    dropped = np.array([row.status != OUT for row in rows], dtype=bool)
    if dropped.any():
        label = f"{dropped.sum()} frames dropped" if dropped.sum() > 1 else "1 frame dropped"
        line = axes.vlines(
            seconds[dropped], 0, 1, transform=axes.get_xaxis_transform(), color=DROP, linewidth=1, alpha=0.45
        )
        line.set_label(label)


def _limits(axes: Axes, seconds: Floats) -> None:
    step = _interval(seconds)
    last = float(seconds.max()) if len(seconds) else 0.0
    axes.set_xlim(-step / 2, last + step / 2)
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
