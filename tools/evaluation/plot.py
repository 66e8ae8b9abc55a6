"""Rate-distortion curves: PSNR and MS-SSIM over bits per pixel, one row of axes for each data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tools.evaluation.table import Curve

__all__ = ["draw"]

INK, MUTED, GRID = "#22303c", "#5f6f7d", "#e4e9ed"
MODEL_COLOURS = ("#1b7f5c", "#2a6f97", "#c8702a", "#8e4585", "#b3261e", "#6b7d1f")
RIVAL_COLOURS = ("#4a5560", "#8a949d", "#b09a6a", "#7f8fb5", "#a97f8f", "#93a886", "#c2a5a0")
MARKERS = "osD^vP*X"
DASHES: tuple[Any, ...] = ("solid", (0, (4, 2)), (0, (1, 1.6)), (0, (6, 2, 1, 2)), (0, (2, 3)))


def draw(curves: Sequence[Curve], models: Sequence[str], title: str, *, log_rate: bool = True) -> Figure:
    """The figure. `models` are the names of our codecs without suffix: they get the strong colours, and a codec with
    another side view is drawn in its codec's colour with another dash."""
    data_sets = list(dict.fromkeys(curve.data for curve in curves))
    figure = Figure(figsize=(12.5, 0.9 + 4.9 * len(data_sets)), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(data_sets), 2, squeeze=False)
    styles = _styles(list(dict.fromkeys(curve.codec for curve in curves)), list(dict.fromkeys(models)))
    for data, (left, right) in zip(data_sets, rows, strict=True):
        chosen = [curve for curve in curves if curve.data == data]
        _axes(left, [(c, c.psnr_db) for c in chosen], styles, f"{data}: PSNR, dB", log_rate)
        _axes(right, [(c, c.ms_ssim_db) for c in chosen], styles, f"{data}: MS-SSIM, dB", log_rate)
    handles, labels = rows[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, labelcolor=INK, fontsize=9.5)
    figure.suptitle(title, x=0.012, ha="left", color=INK, fontsize=12, fontweight="bold")
    return figure


def _styles(names: Sequence[str], models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How each codec is drawn, by its name."""
    styles: dict[str, dict[str, Any]] = {}
    variants, rivals = dict.fromkeys(models, 0), 0
    for name in names:
        owners = [model for model in models if name == model or name.startswith(f"{model} (side ")]
        if owners:
            index = models.index(owners[0])
            dash = DASHES[variants[owners[0]] % len(DASHES)]
            marker = MARKERS[index % len(MARKERS)]
            variants[owners[0]] += 1
            colour = MODEL_COLOURS[index % len(MODEL_COLOURS)]
            styles[name] = {"color": colour, "linestyle": dash, "linewidth": 2.0, "marker": marker, "zorder": 3}
        else:
            colour = RIVAL_COLOURS[rivals % len(RIVAL_COLOURS)]
            marker = MARKERS[-1 - rivals % len(MARKERS)]
            rivals += 1
            styles[name] = {"color": colour, "linestyle": "solid", "linewidth": 1.3, "marker": marker, "zorder": 2}
    return styles


def _axes(
    axes: Axes,
    curves: Sequence[tuple[Curve, list[float] | None]],
    styles: dict[str, dict[str, Any]],
    label: str,
    log_rate: bool,
) -> None:
    for curve, values in curves:
        if values is not None:
            axes.plot(curve.bpp, values, label=curve.codec, markersize=5, **styles[curve.codec])
    if not any(values for _, values in curves):
        axes.text(
            0.5, 0.5, "not measured: the pictures are too small", transform=axes.transAxes, ha="center", color=MUTED
        )
    axes.set_ylabel(label, color=INK)
    axes.set_xlabel("bits per pixel" + (", logarithmic" if log_rate else ""), color=INK)
    if log_rate:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        axes.set_xlim(left=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=MUTED, labelcolor=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
