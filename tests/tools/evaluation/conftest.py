"""Made-up stereo recordings and a small codec."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline.types import Pixels
from stages.codec import weights_file
from stages.codec.bls17 import Bls17Training
from stages.codec.ndic_bls17 import NdicBls17Training


def texture(height: int, width: int, seed: int) -> Pixels:
    """A smooth coloured pattern."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.asarray(np.clip((smooth - 127) * 6 + 127, 0, 255), np.uint8)


def write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels[..., ::-1])


@pytest.fixture(scope="session")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drives of three frames, 200 x 400."""
    root = tmp_path_factory.mktemp("drives") / "made_up"
    for number in range(2):
        for frame in range(3):
            wide = texture(200, 408, seed=10 * number + frame)
            for camera, left in (("image_02", 0), ("image_03", 8)):
                write(root / f"seq{number:02}" / camera / "data" / f"{frame:010d}.png", wide[:, left : left + 400])
    return root


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights files of single-rate models with random networks: two points of bls17, one of ndic_bls17."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(1)
    files = {}
    for name, training, gain in (
        ("bls17-0.001", Bls17Training(8), 40.0),
        ("bls17-0.01", Bls17Training(8), 90.0),
        ("ndic", NdicBls17Training(8), 40.0),
    ):
        with torch.no_grad():
            training.codec.g_a.conv[-1].weight *= gain
        files[name] = folder / f"{name}.safetensors"
        weights_file.save(files[name], training.codec, training.density.tables(), {})
    return files
