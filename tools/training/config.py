"""The keys of a training configuration."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.errors import ConfigError, Fault

__all__ = ["Mixture", "TrainingConfig", "load_training_config"]

STRICT = ConfigDict(extra="forbid")
PAPERS = {
    "learning_rate": 1e-4,
    "prior_rate": 1e-4,
    "amsgrad": True,
    "batch": 1,
    "warm_up": 1,
    "muon": False,
    "patience": 10,
}
"""What `schedule: papers` means, whatever else a file says."""
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(config=STRICT, frozen=True, kw_only=True)
class Mixture:
    """What a batch is drawn from; what the shares leave over are single pictures without a side view."""

    small: Share = 0.4
    small_scale: tuple[float, float] = (2.0, 2.89)
    native: Share = 0.25
    native_scale: tuple[float, float] = (1.0, 2.0)
    layered: Share = 0.25
    neighbour: Share = 0.2
    no_side: Share = 0.12
    wrong_side: Share = 0.08


@dataclass(config=STRICT, frozen=True, kw_only=True)
class TrainingConfig:
    """One training run; `configs/train-*.yaml` explains the keys."""

    model: str
    network: dict[str, Any] = field(default_factory=dict)
    rd_lambda: tuple[Positive, Positive]
    distortion: Annotated[str, Field(pattern="^(mse|ms_ssim)$")] = "mse"
    about: str = ""
    """What the weights are, for their description and model card."""
    start: str | None = None
    """Another run, whose trunk a fresh run starts from; of another model's, what fits."""
    alpha: Annotated[float, Field(ge=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 1.0
    held_out: tuple[str, ...] = ()
    mixture: Mixture = field(default_factory=Mixture)
    crop: tuple[int, int] = (256, 128)
    batch: Annotated[int, Field(ge=1)] = 4
    learning_rate: Positive = 1e-3
    muon: bool = False
    """Of the papers' models: Muon for the kernels. The default codec has it always."""
    muon_rate: Positive = 5e-3
    prior_rate: Positive = 5e-3
    transform_rate: Positive = 3e-4
    warm_up: Annotated[int, Field(ge=1)] = 300
    schedule: Literal["constant", "papers"] = "constant"
    amsgrad: bool = False
    patience: Annotated[int, Field(ge=0)] = 0
    average: Share = 0.9995
    seed: int = 0


def load_training_config(path: Path) -> TrainingConfig:
    """Read and check a YAML file; ConfigError lists every fault."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a training configuration in YAML, found: {error}") from error
    if isinstance(content, dict) and content.get("schedule") == "papers":
        content = {**content, **PAPERS}
    try:
        return TypeAdapter(TrainingConfig).validate_python(content)
    except ValidationError as error:
        places = [(".".join(map(str, e["loc"])), e["msg"], e["input"]) for e in error.errors()]
        raise ConfigError([Fault(f"{path}: {p}", f"{m}, found {v!r}") for p, m, v in places]) from error
