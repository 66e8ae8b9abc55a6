"""The plot says what it shows."""

from __future__ import annotations

from pipeline.plot import render
from tools.evaluation.plot import draw
from tools.evaluation.table import Curve, Row


def curve(codec: str, data: str, ms_ssim: float | None = 0.9) -> Curve:
    rows = (Row(codec, "", data, "mean", bpp, 30.0, ms_ssim, 0, 0) for bpp in (0.1, 0.2))
    return Curve(codec, data, tuple(rows))


def test_every_codec_is_in_the_legend_and_every_data_set_has_axes() -> None:
    names = ["m", "m (side none)", "m (side -1)", "hevc444"]
    figure = draw([curve(n, d) for d in ("a", "b") for n in names], ["m"], "title")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "a: PSNR, dB", "a: MS-SSIM, dB", "b: PSNR, dB", "b: MS-SSIM, dB",
    ]  # fmt: skip
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["m"].get_color() == lines["m (side none)"].get_color() != lines["hevc444"].get_color()
    assert len({lines[name].get_linestyle() for name in names[:2]}) == 2
    assert render(figure, "png").startswith(b"\x89PNG")


def test_what_was_not_measured_is_said() -> None:
    figure = draw([curve("m", "a", None)], ["m"], "title", log_rate=False)
    assert "not measured" in figure.axes[1].texts[0].get_text()
    assert figure.axes[0].get_xscale() == "linear"
