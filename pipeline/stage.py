"""The stage protocol: a class whose typed fields are its YAML keys.

    open(context) -> process(item) yields 0..n items, as often as items come -> flush() yields the rest -> close()

A stage is a keyword-only dataclass. Its fields are validated by pydantic before anything is opened; one is described
with `Annotated[T, Field(description=...)]`, which `sidecast stages` prints. What a stage needs at run time (imports,
files, models, sockets) is made in `open` and kept in underscore attributes. Every stage runs in a thread of its own, or
in several (`at_once`).
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from pipeline.clock import Clock, SystemClock
from pipeline.latency import Cause
from pipeline.ledger import Ledger
from pipeline.metrics import Metrics
from pipeline.types import Frame, Item

__all__ = ["Context", "Source", "Stage"]


@dataclass(slots=True)
class Context:
    """What a node lends its stages."""

    node: str
    out: Path
    """Where outputs go; output paths of stages are relative to it."""
    threads: int = 1
    """Cores that this node may use."""
    clock: Clock = field(default_factory=SystemClock)
    ledger: Ledger = field(default_factory=Ledger)
    metrics: Metrics = field(default_factory=Metrics)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("sidecast"))
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the node should drain: sources end, what is on its way is finished."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the report says beyond the frames: model, quality, device, link. `send` carries it to the decoder's node."""
    config: str = ""
    """The configuration of this run as YAML; recordings carry it."""
    heard_ns: int | None = None
    """When the other node last sent something, by the monotonic clock; None before, and where there is none."""
    error: BaseException | None = None
    """The first error of the node; set before the stages are closed."""


class Stage(ABC):
    """One step of a node's chain."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    settles: ClassVar[bool] = True
    """Whether a frame is through when this, the last stage of a chain, has yielded it. False for `send`."""

    cause: ClassVar[Cause | None] = None
    """What the time that a frame spends waiting for and in this stage counts as; None: as for the stage before it."""

    def open(self, context: Context) -> None:
        """Get ready; raise a SidecastError with one sentence where that is impossible."""

    @property
    def at_once(self) -> int:
        """On how many items the stage can work at the same time, each in a thread of its own. Valid after `open`.

        `process` is still called for one item after the other, in their order; what it returns is drawn in parallel,
        and goes on in that order.
        """
        return 1

    @abstractmethod
    def process(self, item: Item) -> Iterator[Item]:
        """Take one item, yield what follows from it. Items that are not for this stage are yielded as they are."""

    def flush(self) -> Iterator[Item]:
        """Yield what is still held back; nothing more will come."""
        yield from ()

    def close(self) -> None:
        """Let go of everything; called once after `open`, also after an error."""


class Source(Stage):
    """The first stage of a chain, or nested in another one: it makes frames."""

    cause: ClassVar[Cause | None] = "capture"

    clock: ClassVar[Literal["recorded", "wall"]] = "recorded"
    """What pts_ns means: times of a recording, or this machine's wall clock."""

    @abstractmethod
    def read(self) -> Iterator[Item]:
        """Yield frames in order of capture until the source ends or `context.stop` is set."""

    def pull(self) -> Iterator[Item]:
        """Like `read`, but without pace: for a recording nested in another stage."""
        return self.read()

    def process(self, item: Item) -> Iterator[Item]:
        raise TypeError("a source is the first stage of a chain and takes no items")

    def expected_frames(self) -> int | None:
        """How many primary frames will come, where that is known. Valid after `open`."""
        return None

    def frame_at(self, frame_id: int) -> Frame | None:
        """The frame of that index, for nested sources that are matched by frame_id; None if there is none."""
        raise NotImplementedError(f"{type(self).__name__} cannot be read by frame_id")
