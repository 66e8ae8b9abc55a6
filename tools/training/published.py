"""How the models of the papers are trained: with the loss of *Neural Distributed Image Compression*.

As published a model has one rate point, and the loss one lambda. With gains it has all at once: lambda is drawn for
each sample, and the quality with it, as for the default codec.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_msssim import ms_ssim
from torch import Tensor, nn

from stages.codec import weights_file
from stages.codec.bls17 import Bls17Training
from stages.codec.bmshj18 import Bmshj18Training
from stages.codec.cross_attention import CrossAttentionTraining
from stages.codec.dsin import DsinTraining
from stages.codec.fit import fit_of
from stages.codec.gains import HIGHEST_QUALITY, Gains
from stages.codec.ndic_bls17 import NdicBls17Training
from stages.codec.ndic_bmshj18 import NdicBmshj18Training
from stages.codec.training import FactorizedTraining, ScaleTraining, TrainingOutput
from tools.training.config import TrainingConfig
from tools.training.loop import Parameters
from tools.training.samples import Batch, Sampler
from tools.training.validate import Estimate

__all__ = ["PUBLISHED", "PublishedRecipe"]

PUBLISHED: Mapping[str, type[FactorizedTraining | ScaleTraining]] = {
    "bls17": Bls17Training,
    "bmshj18": Bmshj18Training,
    "ndic_bls17": NdicBls17Training,
    "ndic_bmshj18": NdicBmshj18Training,
    "cross_attention": CrossAttentionTraining,
    "dsin": DsinTraining,
}
MS_SSIM_WINDOW = 7


class PublishedRecipe:
    """lambda * 255^2 * (D(x) + alpha D(y)) + bpp_x + alpha bpp_y + beta bpp_w, Adam. D is MSE, or 1 - MS-SSIM."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.model = PUBLISHED[config.model](**config.network)
        self.model.side_branch = config.alpha > 0
        gains = getattr(self.model.codec, "gains", None)
        self.gains: Gains | None = gains
        self.qualities: tuple[float, ...] = (0.0, 27.0, float(HIGHEST_QUALITY)) if gains else (0.0,)
        self._check()

    def start(self, sampler: Sampler) -> None:
        """The initialisation of the layers will do; steps are 1 in the middle, and vary with 1 / sqrt(lambda)."""
        low, high = self.config.rd_lambda
        if self.gains is not None:
            self.gains.set_steps((high / low) ** 0.25, (low / high) ** 0.25)

    def parameters(self) -> Parameters:
        """Adam for everything, as in the papers; with `muon` that for the kernels of the convolutions, as ours."""
        named = list(self.model.named_parameters())
        prior = [p for name, p in named if "density" in name]
        kernels = [p for name, p in named if self.config.muon and p.ndim == 4 and "density" not in name]
        known = {id(p) for p in prior + kernels}
        return Parameters(kernels, prior, [], [p for _, p in named if id(p) not in known])

    def loss(self, batch: Batch, step: int) -> Tensor:
        """The papers' loss, each sample's weighted by (lambda / middle lambda)^-1/2 so that all rates pull alike."""
        low, high = self.config.rd_lambda
        place = torch.rand(len(batch.x), device=batch.x.device)
        rd_lambda = low * (high / low) ** place
        if self.gains is None:
            out: TrainingOutput = self.model(batch.x, batch.side)
        else:
            out = self.model(batch.x, batch.side, place * HIGHEST_QUALITY)
        weight = (rd_lambda / math.sqrt(low * high)) ** -0.5
        loss: Tensor = (weight * (rd_lambda * 255**2 * self._distortion(out, batch) + self._bpp(out, batch))).mean()
        return loss

    def estimate(self, model: nn.Module) -> Estimate:
        """Rounded symbols, rates by the float densities; a missing side view is a black one, if one is needed."""
        assert isinstance(model, FactorizedTraining | ScaleTraining)
        codec, fit = model.codec, fit_of(model.codec)

        def run(x: Tensor, side: Tensor | None, quality: float) -> tuple[Tensor, Tensor]:
            height, width = x.shape[2:]
            if side is None and codec.needs_side:
                side = torch.zeros_like(x)
            prepared = None if side is None else codec.prepare(fit.apply(side))
            symbols, bits = model.transmitted(fit.apply(x), quality)
            return fit.undo(codec.synthesise(symbols, quality, prepared), height, width), bits[None]

        return run

    def release(self, model: nn.Module, path: Path, description: Mapping[str, Any]) -> bytes:
        """Write the weights file of what encoding and decoding need; returns its model id.

        The tables are those of the network as stored, in half precision.
        """
        stored = copy.deepcopy(model).cpu()
        assert isinstance(stored, FactorizedTraining | ScaleTraining)
        with torch.no_grad():
            for parameter in stored.codec.parameters():
                if parameter.ndim >= 2:
                    parameter.copy_(parameter.half())
        codec, tables = stored.exported()
        return weights_file.save(path, codec, tables, description, float16=True)

    def _bpp(self, out: TrainingOutput, batch: Batch) -> Tensor:
        """bpp_x + alpha bpp_y + beta bpp_w of each sample, (B,)."""
        weight = {"x": 1.0, "y": self.config.alpha, "w": self.config.beta}
        bits = torch.zeros(len(batch.x), device=batch.x.device)
        for name, likelihoods in out.likelihoods.items():
            if share := weight[name.removesuffix("_hyper")]:
                bits = bits - share * likelihoods.log2().sum((1, 2, 3))
        return bits / (batch.x.shape[2] * batch.x.shape[3])

    def _distortion(self, out: TrainingOutput, batch: Batch) -> Tensor:
        """D(x) + alpha D(y) of each sample, (B,)."""
        distortion = (1 - out.draft_share) * self._difference(out.x_hat, batch.x)
        if out.draft is not None:
            distortion = distortion + out.draft_share * self._difference(out.draft, batch.x)
        if out.y_hat is not None and self.config.alpha:
            distortion = distortion + self.config.alpha * self._difference(out.y_hat, batch.side)
        return distortion

    def _difference(self, picture: Tensor, original: Tensor) -> Tensor:
        """Mean-squared error, or 1 - MS-SSIM, of pictures in [0, 1]; (B,)."""
        if self.config.distortion == "mse":
            return (picture - original).square().mean((1, 2, 3))
        similarity: Tensor = ms_ssim(picture, original, data_range=1.0, win_size=MS_SSIM_WINDOW, size_average=False)
        return 1 - similarity

    def _check(self) -> None:
        """ValueError where the network or the loss can't take the configured crop or lambdas."""
        low, high = self.config.rd_lambda
        if self.gains is None and low != high:
            raise ValueError(
                f"rd_lambda {low:g} to {high:g} needs gains (anchors: 8); without them give one value twice"
            )
        if self.gains is not None and low >= high:
            raise ValueError(f"rd_lambda {low:g} to {high:g}: with gains the second one must be greater")
        width, height = self.config.crop
        if fit_of(self.model.codec).size(height, width) != (height, width):
            raise ValueError(f"crops of {width} x {height} pixels don't fit, expected the network's size or multiple")
        least = (MS_SSIM_WINDOW - 1) * 16 + 1
        if self.config.distortion == "ms_ssim" and min(width, height) < least:
            raise ValueError(f"crops of {width} x {height} pixels are too small for MS-SSIM, expected {least} at least")
