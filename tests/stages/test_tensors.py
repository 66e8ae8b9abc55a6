"""Pixels to tensors and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.tensors import to_pixels, to_tensor


def test_round_trip_is_exact_for_all_levels():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    x = to_tensor(pixels)
    assert x.shape == (1, 3, 16, 16)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert (float(x.min()), float(x.max())) == (0.0, 1.0)
    assert np.array_equal(to_pixels(x), pixels)


def test_a_right_primary_view_is_mirrored_and_back():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    x = to_tensor(pixels, primary="right")
    assert torch.equal(x, to_tensor(pixels).flip(3))
    assert np.array_equal(to_pixels(x, primary="right"), pixels)


@pytest.mark.parametrize("kind", ["read-only", "strided"])
def test_to_tensor_takes_arrays_that_torch_would_not_share(kind: str):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    if kind == "strided":
        pixels = pixels[::-1, ::2]
    pixels.flags.writeable = kind != "read-only"
    assert np.array_equal(to_pixels(to_tensor(pixels)), pixels)


def test_to_pixels_clamps_and_rounds():
    x_hat = torch.tensor([-0.3, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.7]).expand(1, 3, 1, 5)
    assert to_pixels(x_hat)[0, :, 0].tolist() == [0, 0, 1, 255, 255]
