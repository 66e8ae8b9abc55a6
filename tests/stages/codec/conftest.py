"""Small codecs with random weights."""

import numpy as np
import pytest
import torch

from stages.codec import load_codec, weights_file
from stages.codec.bls17 import Bls17Training
from stages.codec.bmshj18 import Bmshj18Training
from stages.codec.cross_attention import CrossAttentionTraining
from stages.codec.dsin import DsinTraining
from stages.codec.ndic_bls17 import NdicBls17Training
from stages.codec.ndic_bmshj18 import NdicBmshj18Training

TRAINING = {
    "bls17": Bls17Training,
    "bmshj18": Bmshj18Training,
    "ndic_bls17": NdicBls17Training,
    "ndic_bmshj18": NdicBmshj18Training,
    "cross_attention": CrossAttentionTraining,
    "dsin": DsinTraining,
}
SETTINGS = {"cross_attention": {"height": 32, "width": 64}, "dsin": {"width": 6}}


def training_model(name, channels=8, latent_gain=40.0, **more):
    """A training model with random weights and latents wide enough that there is something to code."""
    torch.manual_seed(1)
    training = TRAINING[name](channels, **(SETTINGS.get(name, {}) | more))
    with torch.no_grad():
        training.codec.g_a.conv[-1].weight *= latent_gain
        if hasattr(training, "prior"):
            training.codec.h_a.conv[-1].weight *= 10
            training.prior.h_s.deconv[-1].weight *= 10
        if hasattr(training.codec, "fusion"):
            training.codec.fusion.last.weight[:, 3:6] += 0.1
    return training


def write_weights(path, name, float16=False, **settings):
    """A weights file of such a model."""
    codec, tables = training_model(name, **settings).exported()
    weights_file.save(path, codec, tables, {"note": "random"}, float16=float16)
    return path


@pytest.fixture(scope="session")
def make_training():
    """`training_model`."""
    return training_model


@pytest.fixture(scope="session")
def weights_paths(tmp_path_factory):
    """A weights file of each model, by its name."""
    folder = tmp_path_factory.mktemp("weights")
    return {name: write_weights(folder / f"small-{name}.safetensors", name) for name in TRAINING}


@pytest.fixture(scope="session")
def codecs(weights_paths):
    """A codec of each model, by its name."""
    return {name: load_codec(path) for name, path in weights_paths.items()}


@pytest.fixture
def picture():
    """picture(height, width, seed) -> (1, 3, H, W) float32 in [0, 1], smooth with some noise."""

    def make(height, width, seed=0):
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[:height, :width] / 40
        waves = [0.5 + 0.4 * np.sin(rows * rng.uniform(-2, 2) + columns * rng.uniform(-2, 2)) for _ in range(3)]
        pixels = np.stack(waves) + rng.normal(0, 0.03, (3, height, width))
        return torch.from_numpy(pixels[None].clip(0, 1).astype(np.float32))

    return make
