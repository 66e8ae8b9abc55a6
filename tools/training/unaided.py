"""Fit the default codec's network for pictures without a side view to its frozen transforms; the bits stay as they are.

It starts as what the network for both cases does without a side view, or from what was fitted before.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import ConfigError
from stages.codec import weights_file
from stages.codec.disparity.model import Disparity
from stages.codec.precision import autocast
from tools.training.config import TrainingConfig
from tools.training.disparity import distortion, draw_rates, is_hidden_matrix
from tools.training.loop import Say, Trainer
from tools.training.muon import Muon
from tools.training.samples import Batch

__all__ = ["complete", "fit", "fitted_before"]

State = dict[str, Tensor]
WARM_UP = 100
SAY_STEPS = 100
AVERAGE = 0.999


def complete(weights: Path, before: State, trainer: Trainer, seconds: float, say: Say) -> bytes:
    """Give the codec in a weights file such a network, in place; returns the new model id.

    `before`: a network that is gone on with where it has the same sizes; empty if there is none.
    """
    found = weights_file.load(weights)
    if not isinstance(found.model, Disparity):
        raise ConfigError(f"{weights}: expected weights of disparity, found {found.model.name}")
    model = Disparity(**{**found.model.config, "unaided": True})  # type: ignore[arg-type]
    state = found.model.state_dict()
    model.load_state_dict(model.state_dict() | state)
    assert model.unaided is not None
    own = model.unaided.state_dict()
    if {name: t.shape for name, t in before.items()} == {name: t.shape for name, t in own.items()}:
        model.unaided.load_state_dict(before)
    else:
        model.unaided.take_over(state)
    fit(model.to(trainer.device), trainer.config, trainer.batches, seconds, say)
    description = found.description | {"unaided": {"minutes": round(seconds / 60, 1)}}
    return weights_file.save(weights, model.cpu(), found.tables, description, float16=True)


def fitted_before(weights: Path) -> State:
    """The network in a weights file; empty where there is no file or no such network."""
    if not weights.is_file():
        return {}
    model = weights_file.load(weights).model
    network = model.unaided if isinstance(model, Disparity) else None
    return {} if network is None else network.state_dict()


def fit(model: Disparity, config: TrainingConfig, batches: Iterator[Batch], seconds: float, say: Say) -> None:
    """Train `model.unaided` for so long, at rates that fall to zero along a cosine; its moving average is kept."""
    network = model.requires_grad_(False).unaided
    assert network is not None
    named = list(network.requires_grad_(True).named_parameters())
    hidden = [p for name, p in named if is_hidden_matrix(name, p)]
    known = {id(p) for p in hidden}
    optimisers = (
        (Muon(hidden, config.muon_rate), config.muon_rate),
        (torch.optim.Adam([p for _, p in named if id(p) not in known], config.learning_rate), config.learning_rate),
    )
    average = [p.detach().clone() for _, p in named]
    began, total = time.monotonic(), 0.0
    for step in itertools.count(1):
        place = (time.monotonic() - began) / seconds
        if place >= 1:
            break
        rate = min(1.0, step / WARM_UP) * 0.5 * (1 + math.cos(math.pi * place))
        loss = _loss(model, config, next(batches))
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimiser, peak in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * peak
            optimiser.step()
        keep = min(AVERAGE, step / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(average, [p for _, p in named], 1 - keep)
        total += loss.item()
        if step % SAY_STEPS == 0:
            say(f"without a side view: step {step}  loss {total / SAY_STEPS:.4f}  {place:.0%}")
            total = 0.0
    with torch.no_grad():
        for (_, p), kept in zip(named, average, strict=True):
            p.copy_(kept)


def _loss(model: Disparity, config: TrainingConfig, batch: Batch) -> Tensor:
    """The training loss's part that the network can change: lambda * 255^2 * D."""
    rd_lambda, quality, weight = draw_rates(config, batch.x)
    with torch.no_grad():
        step = model.step(quality)
        latent = (model.g_a(batch.x) / step).round() * step
    with autocast(batch.x.device):
        x_hat = model.g_s(latent, quality, None).x_hat
    loss: Tensor = (weight * rd_lambda * 255**2 * distortion(config, x_hat.float(), batch.x)).mean()
    return loss
