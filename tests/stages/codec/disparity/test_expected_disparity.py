"""Where the default codec's matching looks, against true disparity: the median error stays under one cell."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.stage import Context
from pipeline.types import Pixels
from stages.codec import load_codec
from stages.codec.disparity.model import Disparity
from stages.codec.precision import autocast
from stages.codec.weights_file import ALIASES, shipped
from stages.picture import read_picture
from stages.sources.synthetic import Synthetic

pytestmark = pytest.mark.skipif(ALIASES["default"] not in shipped(), reason="the default weights are not there")
CELL = 4
"""Pixels of a cell of the finer search."""


@torch.no_grad()
def expected_disparity(primary: Pixels, side: Pixels, quality: float) -> NDArray[np.float32]:
    """(H, W) px: how far left of itself the decoder found each pixel of the left, primary view in the side view."""
    model = load_codec("default", "cpu")._model
    assert isinstance(model, Disparity)
    x, y = (torch.from_numpy(np.ascontiguousarray(v)).permute(2, 0, 1)[None].float() / 255 for v in (primary, side))
    level = torch.tensor([quality])
    latent = (model.g_a(x) / model.step(level)).round() * model.step(level)
    prepared = model.prepare(y)
    with autocast(x.device):
        offset = model.g_s(latent, level, prepared).offset
    assert offset is not None
    return -offset[0, 0].float().numpy()


@pytest.mark.parametrize("quality", [0.0, 24.0, 63.0])
def test_matching_finds_the_true_disparity_of_the_synthetic_drive(context: Context, quality: float) -> None:
    drive = Synthetic(size=(640, 192))
    drive.open(context)
    error = [
        expected_disparity(drive.render(i, "left"), drive.render(i, "right"), quality) - drive.disparity_at(i)
        for i in (0, 30, 50)
    ]
    assert np.median(np.abs(error)) < CELL / 2


@pytest.mark.parametrize("sequence", ["seq04", "seq09"])
def test_matching_agrees_with_semi_global_matching_on_real_drives(data: Path, sequence: str) -> None:
    """Where OpenCV's matching of left to right and of right to left agree, on scenes that were not trained on."""
    folder = data / "kitti_odom_color" / sequence
    errors = []
    for number in (0, 5):
        left, right = (
            read_picture(folder / f"image_0{i}" / "data" / f"{number:010d}.png")[:352, :1216] for i in (2, 3)
        )
        disparity, known = semi_global_disparity(left, right)
        errors.append(np.abs(expected_disparity(left, right, 24.0) - disparity)[known])
    assert np.median(np.concatenate(errors)) < CELL


def semi_global_disparity(left: Pixels, right: Pixels) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Disparity (H, W) px of the left view, and where the right view's confirms it within a pixel."""
    matcher = cv2.StereoSGBM_create(
        0, 128, 5, 8 * 25, 32 * 25, uniquenessRatio=10, speckleWindowSize=50, speckleRange=2
    )
    of_left = matcher.compute(left, right).astype(np.float32) / 16
    mirrored = matcher.compute(cv2.flip(right, 1), cv2.flip(left, 1)).astype(np.float32) / 16
    width = left.shape[1]
    there = np.clip(np.round(np.arange(width) - of_left).astype(int), 0, width - 1)
    of_right = np.take_along_axis(cv2.flip(mirrored, 1), there, 1)
    return of_left, (of_left > 0) & (np.abs(of_right - of_left) < 1)
