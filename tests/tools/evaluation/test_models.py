"""Which weights make up which curve."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from stages.codec import WeightsError
from tools.evaluation.models import load_models


def points(names: list[str], qualities: tuple[float, ...] = ()) -> list[tuple[str, str]]:
    return [(point.curve, point.quality) for point in load_models(names, qualities, "cpu")]


def test_single_rate_weights_of_one_name_are_points_of_one_curve(weights: dict[str, Path]) -> None:
    files = [str(weights[name]) for name in ("bls17-0.001", "bls17-0.01", "ndic")]
    assert points(files) == [("bls17", "0.001"), ("bls17", "0.01"), ("ndic", "ndic")]


def test_a_given_name_replaces_the_files(weights: dict[str, Path]) -> None:
    assert points([f"mine={weights['ndic']}"]) == [("mine", "ndic")]


def test_variable_rate_weights_run_at_the_qualities_asked_for() -> None:
    assert points(["default"], (0.0, 24.0)) == [("disparity-mse-fast", "0"), ("disparity-mse-fast", "24")]
    assert [quality for _, quality in points(["default"])] == ["0", "12", "24", "36", "48", "63"]


def test_what_does_not_fit_is_one_sentence(weights: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="disparity-mse-fast has 0 to 63, not 64"):
        points(["default"], (64.0,))
    with pytest.raises(ConfigError, match="two weights are called 'a'"):
        points([f"a={weights['ndic']}", f"a={weights['ndic']}"])
    with pytest.raises(WeightsError, match="does not exist"):
        points([str(tmp_path / "none.safetensors")])
