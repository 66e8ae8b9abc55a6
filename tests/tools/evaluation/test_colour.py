"""RGB to planes and back."""

from __future__ import annotations

import numpy as np
import pytest

from tools.evaluation.colour import Chroma, from_planes, from_ycbcr, to_planes, to_ycbcr


def test_full_resolution_loses_rounding_only() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    planes = to_planes(pixels, "yuv444p")
    assert planes.shape == (3, 6, 8)
    assert np.abs(from_planes(planes, "yuv444p", 6, 8).astype(int) - pixels).max() <= 2
    assert np.array_equal(from_ycbcr(to_ycbcr(pixels)), from_planes(planes, "yuv444p", 6, 8))


@pytest.mark.parametrize("chroma", ["yuv444p", "yuv420p"])
def test_odd_sizes_of_one_colour_come_back(chroma: Chroma) -> None:
    pixels = np.full((5, 7, 3), (200, 90, 30), np.uint8)
    planes = to_planes(pixels, chroma)
    assert planes.size == 6 * 8 * (3 if chroma == "yuv444p" else 1.5)
    assert np.abs(from_planes(planes, chroma, 5, 7).astype(int) - pixels).max() <= 1


def test_grey_has_no_chroma_and_full_range() -> None:
    planes = to_planes(np.full((2, 2, 3), 255, np.uint8), "yuv420p")
    assert planes.ravel().tolist() == [255] * 4 + [128, 128]
