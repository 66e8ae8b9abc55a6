"""Sizes and places of what is cut out of a picture."""

from __future__ import annotations

import numpy as np
import pytest

from tools.evaluation.preprocess import Preprocess, prepared


@pytest.mark.parametrize(
    ("how", "before", "after"),
    [
        ("paper", (376, 1241), (128, 256)),
        ("paper", (90, 120), (128, 256)),
        ("native", (376, 1241), (352, 1216)),
        ("native", (100, 2000), (100, 1216)),
        ("full", (375, 1242), (375, 1242)),
    ],
)
def test_sizes(how: Preprocess, before: tuple[int, int], after: tuple[int, int]) -> None:
    assert prepared(np.zeros((*before, 3), np.uint8), how).shape == (*after, 3)


def test_the_papers_crop_is_the_middle() -> None:
    pixels = np.zeros((376, 1242, 3), np.uint8)
    pixels[3:373, 251:991] = 200
    assert np.all(prepared(pixels, "paper") == 200)
    assert prepared(pixels, "paper", crop=False).min() == 0


def test_a_smaller_picture_keeps_its_shape() -> None:
    pixels = np.zeros((370, 500, 3), np.uint8)
    pixels[60:310] = 200
    assert np.all(prepared(pixels, "paper") == 200)


def test_mirrored_pictures_are_flipped() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(prepared(pixels, "full", mirrored=True), pixels[:, ::-1])
