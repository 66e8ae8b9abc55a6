"""What a configuration is once it is read and found good."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from pipeline.stage import Stage

__all__ = ["ChannelSpec", "Config", "Node", "StageEntry"]


@dataclass(frozen=True, kw_only=True)
class ChannelSpec:
    """What a YAML file says about the channel before a stage; None leaves it to the runner."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    policy: Annotated[
        Literal["block", "latest"] | None, Field(description="block waits, latest replaces what waits")
    ] = None
    capacity: Annotated[int | None, Field(ge=1, le=1024, description="items that may wait")] = None


@dataclass(frozen=True)
class StageEntry:
    """One stage of a chain, built and validated, not opened."""

    use: str
    """The short name in the YAML file."""
    label: str
    """Unique in its node: `encode`, or `write_images_2` for the second of that name."""
    stage: Stage
    channel: ChannelSpec | None
    line: int


@dataclass(frozen=True)
class Node:
    """One process: a straight chain of stages."""

    name: str
    http: str | None
    """HOST:PORT of /metrics, /livez and /readyz."""
    insecure: bool
    """Whether `http` may be reached from other machines."""
    stages: list[StageEntry]
    dashboard: bool = False
    """Whether `http` shows the page too."""


@dataclass(frozen=True)
class Config:
    """A whole file: its variables, as they are in this run, and its nodes by name."""

    path: Path
    vars: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
