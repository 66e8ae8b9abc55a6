"""What a panel shows."""

from __future__ import annotations

import numpy as np

from tools.evaluation.measure import Measured
from tools.evaluation.panels import alike, draw_panel
from tools.evaluation.samples import Loaded, Side
from tools.evaluation.table import Row

GREY = np.full((64, 128, 3), 128, np.uint8)


def measured(codec: str, bpp: float) -> Measured:
    return Measured(Row(codec, f"{bpp}", "street", "x", bpp, 30.0, None, 0, 0), GREY)


def test_codecs_are_shown_at_about_the_same_rate() -> None:
    points = [measured("m", bpp) for bpp in (0.05, 0.12, 0.4)] + [measured("hevc444", bpp) for bpp in (0.02, 0.1, 0.3)]
    assert [(one.row.codec, one.row.bpp) for one in alike(points)] == [("m", 0.12), ("hevc444", 0.1)]


def test_a_panel_is_a_picture_with_and_without_a_side_view() -> None:
    shown = [measured("m", 0.1), measured("jpeg", 0.1)]
    small = draw_panel("x", Loaded(GREY, {Side("none"): None}), shown)
    large = draw_panel("x", Loaded(GREY, {Side(): GREY}), shown)
    assert small.dtype == np.uint8
    assert small.shape[1] == large.shape[1]
    assert small.shape[0] < large.shape[0]
