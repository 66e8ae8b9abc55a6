"""PSNR and MS-SSIM against known values and against the library that the papers use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as published
from specimens import picture

from stages.similarity import PSNR_CAP_DB, ms_ssim, psnr_db


def noisy(pixels: np.ndarray, sigma: float = 12.0) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, sigma, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def test_psnr_db_of_one_level_everywhere():
    a = np.full((10, 20, 3), 100, np.uint8)
    assert psnr_db(a, a + 1) == pytest.approx(48.1308, abs=1e-4)
    assert psnr_db(a + 1, a) == psnr_db(a, a + 1)


def test_psnr_db_is_capped_where_pictures_are_the_same():
    assert psnr_db(picture(), picture()) == PSNR_CAP_DB


def test_psnr_db_of_black_and_white_is_zero():
    black = np.zeros((400, 1300, 3), np.uint8)
    assert psnr_db(black, ~black) == 0.0


@pytest.mark.parametrize(("width", "height", "window"), [(330, 171, 11), (175, 161, 11), (300, 160, 7), (97, 98, 7)])
def test_ms_ssim_is_that_of_pytorch_msssim(width: int, height: int, window: int):
    a = picture(width, height)
    b = noisy(a)
    x, y = (torch.from_numpy(p).permute(2, 0, 1)[None].float() for p in (a, b))
    assert ms_ssim(a, b) == pytest.approx(float(published(x, y, data_range=255, win_size=window)), abs=1e-5)


def test_ms_ssim_is_one_for_the_same_picture():
    assert ms_ssim(picture(200, 180), picture(200, 180)) == pytest.approx(1.0, abs=1e-6)


def test_ms_ssim_is_none_where_five_scales_do_not_fit():
    assert ms_ssim(picture(300, 96), picture(300, 96)) is None


@pytest.mark.parametrize("measure", [psnr_db, ms_ssim])
def test_sizes_that_differ_are_refused(measure):
    with pytest.raises(ValueError, match="one size"):
        measure(picture(64, 48), picture(64, 50))
