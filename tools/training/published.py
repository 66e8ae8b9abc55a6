"""How the models of the papers are trained: one rate point, the loss of *Neural Distributed Image Compression*."""

from __future__ import annotations

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
from stages.codec.ndic_bls17 import NdicBls17Training
from stages.codec.ndic_bmshj18 import NdicBmshj18Training
from stages.codec.training import FactorizedTraining, ScaleTraining, TrainingOutput, bits_of
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

    qualities: tuple[float, ...] = (0.0,)

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.model = PUBLISHED[config.model](**config.network)
        self._check_crop()

    def start(self, sampler: Sampler) -> None:
        """The initialisation of the layers will do."""

    def parameters(self) -> Parameters:
        """Adam for everything, as in the papers."""
        prior = [p for name, p in self.model.named_parameters() if "density" in name]
        known = {id(p) for p in prior}
        return Parameters([], prior, [], [p for p in self.model.parameters() if id(p) not in known])

    def loss(self, batch: Batch, step: int) -> Tensor:
        """The papers' loss at the configuration's first lambda."""
        out: TrainingOutput = self.model(batch.x, batch.side)
        count = batch.x.shape[0] * batch.x.shape[2] * batch.x.shape[3]
        weight = {"x": 1.0, "y": self.config.alpha, "w": self.config.beta}
        rate = torch.zeros(())
        for name, likelihoods in out.likelihoods.items():
            if share := weight[name.removesuffix("_hyper")]:
                rate = rate + share * bits_of(likelihoods) / count
        distortion = (1 - out.draft_share) * self._distortion(out.x_hat, batch.x)
        if out.draft is not None:
            distortion = distortion + out.draft_share * self._distortion(out.draft, batch.x)
        if out.y_hat is not None and self.config.alpha:
            distortion = distortion + self.config.alpha * self._distortion(out.y_hat, batch.side)
        loss: Tensor = self.config.rd_lambda[0] * 255**2 * distortion + rate
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
            symbols, bits = model.transmitted(fit.apply(x))
            return fit.undo(codec.synthesise(symbols, quality, prepared), height, width), bits[None]

        return run

    def release(self, model: nn.Module, path: Path, description: Mapping[str, Any]) -> bytes:
        """Write the weights file of what encoding and decoding need; returns its model id."""
        assert isinstance(model, FactorizedTraining | ScaleTraining)
        codec, tables = model.exported()
        return weights_file.save(path, codec, tables, description)

    def _distortion(self, picture: Tensor, original: Tensor) -> Tensor:
        """Mean-squared error, or 1 - MS-SSIM; of pictures in [0, 1]."""
        if self.config.distortion == "mse":
            return (picture - original).square().mean()
        similarity: Tensor = ms_ssim(picture, original, data_range=1.0, win_size=MS_SSIM_WINDOW)
        return 1 - similarity

    def _check_crop(self) -> None:
        """ValueError where the network or the loss can't take the configured crop."""
        width, height = self.config.crop
        if fit_of(self.model.codec).size(height, width) != (height, width):
            raise ValueError(f"crops of {width} x {height} pixels don't fit, expected the network's size or multiple")
        least = (MS_SSIM_WINDOW - 1) * 16 + 1
        if self.config.distortion == "ms_ssim" and min(width, height) < least:
            raise ValueError(f"crops of {width} x {height} pixels are too small for MS-SSIM, expected {least} at least")
