"""Delta rates whose value is known."""

from __future__ import annotations

import pytest

from tools.evaluation.bd_rate import rate_change_percent

ANCHOR = ([0.1, 0.2, 0.4, 0.8], [25.0, 27.0, 29.0, 31.0])


def test_half_the_rate_is_minus_fifty_percent() -> None:
    test = ([rate / 2 for rate in ANCHOR[0]], ANCHOR[1])
    assert rate_change_percent(test, ANCHOR) == pytest.approx(-50)
    assert rate_change_percent(ANCHOR, ANCHOR) == pytest.approx(0)


def test_only_the_common_range_counts() -> None:
    longer = ([0.15, 0.3, 0.6, 50.0], [27.0, 29.0, 31.0, 40.0])
    assert rate_change_percent(longer, ANCHOR) == pytest.approx(-25, abs=2)


def test_points_that_give_less_for_more_are_left_out() -> None:
    test = ([*ANCHOR[0], 0.9], [*ANCHOR[1], 30.0])
    assert rate_change_percent(test, ANCHOR) == pytest.approx(0)


def test_a_single_point_is_compared_at_its_quality() -> None:
    assert rate_change_percent(([0.1], [27.0]), ANCHOR) == pytest.approx(-50)
    assert rate_change_percent(([0.1], [24.0]), ANCHOR) is None


def test_no_common_quality_has_no_delta() -> None:
    assert rate_change_percent(([0.1, 0.2], [40.0, 41.0]), ANCHOR) is None
    assert rate_change_percent(ANCHOR, ([0.1], [27.0])) is None
    assert rate_change_percent(((), ()), ANCHOR) is None
