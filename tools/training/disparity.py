"""How the default codec is trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_msssim import ms_ssim
from torch import Tensor, nn

from stages.codec import weights_file
from stages.codec.disparity.blocks import halved
from stages.codec.disparity.model import Disparity
from stages.codec.disparity.tables import probabilities
from stages.codec.entropy import CodingTables
from stages.codec.precision import autocast
from tools.training.config import TrainingConfig
from tools.training.loop import Parameters
from tools.training.samples import Batch, Sampler
from tools.training.start import start_from_klt
from tools.training.validate import Estimate

__all__ = ["DisparityRecipe", "distortion", "draw_rates", "is_hidden_matrix"]

REFERENCE_LAMBDA = 1.5e-3
"""A sample's loss is weighted by (lambda / this)^-1/2, so that all rates pull alike."""
ROUGH_WEIGHT, ALIGNED_WEIGHT = 0.1, 0.05
MS_SSIM_SCALE = 0.02
"""Makes 1 - MS-SSIM about as large as MSE, so that the same lambdas give about the same rates."""


class DisparityRecipe:
    """All rates at once: lambda is drawn for each sample, and the quality with it."""

    qualities: tuple[float, ...] = (0.0, 27.0, 63.0)

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.model = Disparity(**config.network)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def start(self, sampler: Sampler) -> None:
        """From the linear codec."""
        start_from_klt(self.model, sampler, self.config.rd_lambda)

    def parameters(self) -> Parameters:
        """Muon for the kernels of the networks, not for the lapped transform."""
        hidden = [p for name, p in self.model.named_parameters() if is_hidden_matrix(name, p)]
        prior = list(self.model.prior.parameters())
        transform = [self.model.analysis, self.model.synthesis]
        known = {id(p) for p in hidden + prior + transform}
        return Parameters(hidden, prior, transform, [p for p in self.model.parameters() if id(p) not in known])

    def loss(self, batch: Batch, step: int) -> Tensor:
        """R + lambda * 255^2 * D, with help for the rough picture and the alignment; the rate comes in slowly."""
        rd_lambda, quality, weight = draw_rates(self.config, batch.x)
        with autocast(batch.x.device):
            out = self.model(batch.x, batch.side, quality, batch.use)
        bpp = out.bits / (batch.x.shape[2] * batch.x.shape[3])
        difference = distortion(self.config, out.picture.x_hat, batch.x)
        difference = difference + ROUGH_WEIGHT * _mse(out.picture.rough, halved(batch.x))
        difference = difference + ALIGNED_WEIGHT * _mse(out.picture.aligned, batch.x)
        rate_weight = min(1.0, 0.3 + step / 1000)
        loss: Tensor = (weight * (rd_lambda * 255**2 * difference + rate_weight * bpp)).mean()
        return loss

    def estimate(self, model: nn.Module) -> Estimate:
        """Rounded symbols, rates by the density."""
        assert isinstance(model, Disparity)

        def run(x: Tensor, side: Tensor | None, quality: float) -> tuple[Tensor, Tensor]:
            return model.estimate(x, side, quality)

        return run

    def release(self, model: nn.Module, path: Path, description: Mapping[str, Any]) -> bytes:
        """Write the weights file and return its model id; the tables are those of the network as stored."""
        assert isinstance(model, Disparity)
        stored = copy.deepcopy(model).cpu()
        with torch.no_grad():
            for parameter in stored.parameters():
                if parameter.ndim >= 2:
                    parameter.copy_(parameter.half())
        pmfs, offsets = probabilities(stored)
        return weights_file.save(path, stored, CodingTables.build(pmfs, offsets), description, float16=True)


def draw_rates(config: TrainingConfig, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each sample (B,): lambda, log-uniform; the quality that belongs to it; the weight of its loss."""
    low, high = config.rd_lambda
    place = torch.rand(len(x), device=x.device)
    rd_lambda = low * (high / low) ** place
    return rd_lambda, place * Disparity.quality_range[1], (rd_lambda / REFERENCE_LAMBDA) ** -0.5


def distortion(config: TrainingConfig, x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean-squared error of each sample (B,), or 1 - MS-SSIM scaled to its size."""
    if config.distortion == "mse":
        return _mse(x_hat, x)
    similarity: Tensor = ms_ssim(x_hat, x, data_range=1.0, win_size=7, size_average=False)
    return (1 - similarity) * MS_SSIM_SCALE


def is_hidden_matrix(name: str, p: Tensor) -> bool:
    """Whether Muon trains that parameter of the default codec: the kernels of the networks."""
    return p.ndim == 4 and p.shape[1] > 1 and not name.startswith(("analysis", "synthesis", "prior"))


def _mse(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean((1, 2, 3))
