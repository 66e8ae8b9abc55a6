"""The training loop: constant rate for as long as it runs; a copy is decayed whenever weights are released."""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tools.training.config import TrainingConfig
from tools.training.feed import batches
from tools.training.muon import Muon
from tools.training.pictures import Library
from tools.training.plateau import Plateau
from tools.training.samples import Batch, Sampler
from tools.training.validate import Estimate, gist, validate

__all__ = ["Parameters", "Recipe", "Say", "Trainer", "append_log", "run", "save_state"]

Say = Callable[[str], None]
SAVE_SECONDS = 300
SAY_STEPS = 100


@dataclass(frozen=True, slots=True)
class Parameters:
    """Which optimiser trains what."""

    hidden: list[nn.Parameter]
    """Matrices for Muon; may be empty."""
    prior: list[nn.Parameter]
    """The densities, which take a higher rate."""
    transform: list[nn.Parameter]
    """The lapped transform, which takes a lower rate; may be empty."""
    rest: list[nn.Parameter]


class Recipe(Protocol):
    """What is particular to training one model."""

    qualities: tuple[float, ...]
    """Where validation looks."""

    @property
    def model(self) -> nn.Module:
        """The network in training."""

    def start(self, sampler: Sampler) -> None:
        """Fill a fresh model."""

    def parameters(self) -> Parameters:
        """The model's parameters by optimiser."""

    def loss(self, batch: Batch, step: int) -> Tensor:
        """The training loss of a batch, a scalar."""

    def estimate(self, model: nn.Module) -> Estimate:
        """What validation calls for `model`, the moving average."""

    def release(self, model: nn.Module, path: Path, description: Mapping[str, Any]) -> bytes:
        """Write a weights file of `model` and return its model id."""


class Trainer:
    """Model, its moving average, optimisers and counters: everything that `state.pt` keeps."""

    def __init__(self, config: TrainingConfig, recipe: Recipe, sampler: Sampler, device: torch.device) -> None:
        self.config, self.recipe, self.sampler, self.device = config, recipe, sampler, device
        self.model = recipe.model.to(device)
        self.batches = batches(sampler, config.batch, device)
        self.average = copy.deepcopy(recipe.model).requires_grad_(False).eval()
        parameters = recipe.parameters()
        self.muon = Muon(parameters.hidden, config.muon_rate) if parameters.hidden else None
        self.adam = torch.optim.Adam(
            [
                {"params": parameters.rest, "peak": config.learning_rate},
                {"params": parameters.prior, "peak": config.prior_rate},
                # Kernels of rare symbols get rare gradients: without the maximum that amsgrad keeps, their second
                # moments decay in between, and the next gradient throws them off (measured: loss 0.56 -> 1.4).
                {"params": parameters.transform, "peak": config.transform_rate, "amsgrad": True},
            ],
            amsgrad=config.amsgrad,
        )
        self.plateau = Plateau(config.patience)
        self.step = 0
        self.updates = 0
        """Since the optimisers started: less than `step` where only the network was kept."""
        self.seconds = 0.0
        """Of the processor's time, summed over cores: what others used meanwhile does not count. On a GPU, of the
        clock's."""

    def state(self) -> dict[str, Any]:
        """Everything needed to go on as if nothing had happened, but the random state."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "muon": self.muon.state_dict() if self.muon else {},
            "adam": self.adam.state_dict(),
            "plateau": self.plateau.state(),
            "step": self.step,
            "updates": self.updates,
            "seconds": self.seconds,
        }

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        if self.muon:
            self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.plateau.load(state.get("plateau", {}))
        self.step, self.updates, self.seconds = state["step"], state["updates"], state["seconds"]

    def train_step(self, rate: float = 1.0) -> float:
        """One batch, one update at `rate` times the configured learning rates; returns the loss."""
        clock = time.process_time if self.device.type == "cpu" else time.monotonic
        began = clock()
        self._set_rates(rate)
        loss = self.recipe.loss(next(self.batches), self.step)
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.step()
        if self.muon:
            self.muon.step()
        self.step += 1
        self.updates += 1
        keep = min(self.config.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)
        value = loss.item()
        self.seconds += clock() - began
        self.plateau.note(value)
        return value

    def validate(self, library: Library) -> dict[str, float]:
        """The moving average's scores by name."""
        with torch.no_grad():
            return validate(self.recipe.estimate(self.average), self.recipe.qualities, library, self.device)

    def _set_rates(self, rate: float) -> None:
        rate *= min(1.0, (self.updates + 1) / self.config.warm_up) * self.plateau.factor
        for group in self.adam.param_groups:
            group["lr"] = rate * group["peak"]
        if self.muon:
            self.muon.param_groups[0]["lr"] = rate * self.config.muon_rate


def run(trainer: Trainer, library: Library, folder: Path, log: Path, seconds: float, say: Say) -> None:
    """Train at constant rate for `seconds`; save to `folder` and validate into `log` every 5 minutes."""
    began = saved = time.monotonic()
    progress = _Progress(trainer, say)
    while time.monotonic() - began < seconds:
        progress.note(trainer.train_step())
        if time.monotonic() - saved > SAVE_SECONDS:
            saved = time.monotonic()
            save_state(trainer, folder)
            append_log(trainer, trainer.validate(library), log, say)


def decay(trainer: Trainer, seconds: float, say: Say) -> None:
    """Let the rates fall to zero along a cosine within `seconds`."""
    began = time.monotonic()
    progress = _Progress(trainer, say)
    while (place := (time.monotonic() - began) / seconds) < 1:
        progress.note(trainer.train_step(0.5 * (1 + math.cos(math.pi * place)) + 0.01))


def save_state(trainer: Trainer, folder: Path) -> None:
    """Write `state.pt`, never half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "state.pt.part"
    torch.save(trainer.state(), part)
    part.replace(folder / "state.pt")


def append_log(trainer: Trainer, scores: dict[str, float], log: Path, say: Say) -> None:
    """Add a line to the CSV log and say it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    fresh = not log.exists()
    with log.open("a", newline="") as f:
        writer = csv.writer(f)
        if fresh:
            writer.writerow(("step", "seconds", *scores))
        writer.writerow((trainer.step, round(trainer.seconds), *(f"{v:.4f}" for v in scores.values())))
    say(f"validation at step {trainer.step}: {gist(scores)}")


class _Progress:
    """Says now and then how far training is, with the means since it last did."""

    def __init__(self, trainer: Trainer, say: Say) -> None:
        self._trainer, self._say = trainer, say
        self._begin()

    def _begin(self) -> None:
        self._losses: list[float] = []
        self._since = self._trainer.seconds

    def note(self, loss: float) -> None:
        """A step's loss."""
        self._losses.append(loss)
        if len(self._losses) == SAY_STEPS:
            mean, took = sum(self._losses) / SAY_STEPS, (self._trainer.seconds - self._since) / SAY_STEPS
            self._say(f"step {self._trainer.step}  loss {mean:.4f}  {took * 1e3:.0f} ms a step")
            self._begin()
