"""What a side view is worth, from curves that are known."""

from __future__ import annotations

import pytest

from tools.evaluation.samples import Side
from tools.evaluation.side import worth_of
from tools.evaluation.table import Curve, Row


def curve(codec: str, first_db: float) -> Curve:
    points = [(0.1, first_db), (0.2, first_db + 2), (0.4, first_db + 4)]
    return Curve(codec, "street", tuple(Row(codec, "", "street", "mean", b, d, None, 0, 0) for b, d in points))


def test_losses_are_at_equal_bytes_and_at_equal_quality() -> None:
    curves = [curve("m", 27.0), curve("m (side -2)", 25.0), curve("m (side none)", 24.0), curve("hevc444", 26.0)]
    two, none = worth_of(curves, ["m", "m"], [Side(), Side("paired", 2), Side("none"), Side("wrong")])
    assert (two.side, two.psnr_change_db, two.psnr_percent) == ("side view 2 frames older", -2.0, pytest.approx(100))
    assert none.psnr_change_db == -3.0
    assert two.sentence() == "m on street, side view 2 frames older: -2.00 dB PSNR, +100.0 % bytes at equal PSNR"


def test_nothing_is_said_without_the_right_side_view() -> None:
    assert not list(worth_of([curve("m (side none)", 24.0)], ["m"], [Side("none")]))
