"""How the models of the papers are trained: one rate point, the loss of *Neural Distributed Image Compression*."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.codec import weights_file
from stages.codec.bls17 import Bls17Training
from stages.codec.factorized import bits_of
from stages.codec.ndic_bls17 import NdicBls17Training
from tools.training.config import TrainingConfig
from tools.training.loop import Parameters
from tools.training.samples import Batch, Sampler
from tools.training.validate import Estimate

__all__ = ["PUBLISHED", "PublishedRecipe"]

PUBLISHED: Mapping[str, type[Bls17Training | NdicBls17Training]] = {
    "bls17": Bls17Training,
    "ndic_bls17": NdicBls17Training,
}


class PublishedRecipe:
    """lambda * 255^2 * (D(x) + alpha D(y)) + bpp_x + alpha bpp_y + beta bpp_w, mean-squared error, Adam."""

    qualities: tuple[float, ...] = (0.0,)

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.model = PUBLISHED[config.model](**config.network)

    def start(self, sampler: Sampler) -> None:
        """The initialisation of the layers will do."""

    def parameters(self) -> Parameters:
        """Adam for everything, as in the papers."""
        prior = [p for name, p in self.model.named_parameters() if "density" in name]
        known = {id(p) for p in prior}
        return Parameters([], prior, [], [p for p in self.model.parameters() if id(p) not in known])

    def loss(self, batch: Batch, step: int) -> Tensor:
        """The papers' loss at the configuration's first lambda."""
        out = self.model(batch.x, batch.side)
        count = batch.x.shape[0] * batch.x.shape[2] * batch.x.shape[3]
        weight = {"x": 1.0, "y": self.config.alpha, "w": self.config.beta}
        rate = sum((weight[k] * bits_of(v) / count for k, v in out.likelihoods.items()), torch.zeros(()))
        distortion = (out.x_hat - batch.x).square().mean()
        if out.y_hat is not None:
            distortion = distortion + self.config.alpha * (out.y_hat - batch.side).square().mean()
        loss: Tensor = self.config.rd_lambda[0] * 255**2 * distortion + rate
        return loss

    def estimate(self, model: nn.Module) -> Estimate:
        """Rounded symbols, rates by the density; a missing side view is a black one."""
        assert isinstance(model, Bls17Training | NdicBls17Training)

        def run(x: Tensor, side: Tensor | None, quality: float) -> tuple[Tensor, Tensor]:
            symbols = model.codec.analyse(x, quality)
            prepared = model.codec.prepare(torch.zeros_like(x) if side is None else side)
            bits = bits_of(model.density(symbols[None].float()))
            return model.codec.synthesise(symbols, quality, prepared), bits[None]

        return run

    def release(self, model: nn.Module, path: Path, description: Mapping[str, Any]) -> bytes:
        """Write the weights file of what encoding and decoding need; returns its model id."""
        assert isinstance(model, Bls17Training | NdicBls17Training)
        return weights_file.save(path, model.codec, model.tables(), description)
