"""Tiny stages for tests of the engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.model import ChannelSpec, Node, StageEntry
from pipeline.stage import Context, Source, Stage
from pipeline.types import Frame, Item, Role


def frame(frame_id: int, role: Role = "primary", taken_ns: int = 0) -> Frame:
    return Frame(np.zeros((2, 2, 3), np.uint8), "left", frame_id, frame_id * 100_000_000, taken_ns, role)


@dataclass(kw_only=True)
class Numbers(Source):
    """Frames 0 to count - 1; `endless` goes on until it is stopped."""

    count: int = 5
    endless: bool = False
    unreadable: tuple[int, ...] = ()
    log: list[str] = field(default_factory=list)

    def open(self, context: Context) -> None:
        self._context = context
        self.log.append("open numbers")

    def read(self) -> Iterator[Item]:
        i = 0
        while (self.endless or i < self.count) and not self._context.stop.is_set():
            if i in self.unreadable:
                self._context.ledger.drop(i, "unreadable", i)
            else:
                yield frame(i, taken_ns=self._context.clock.wall_ns())
            i += 1

    def expected_frames(self) -> int | None:
        return None if self.endless else self.count

    def close(self) -> None:
        self.log.append("close numbers")


@dataclass(kw_only=True)
class Step(Stage):
    """Passes everything; fails where it is told to."""

    name: str = "step"
    log: list[str] = field(default_factory=list)
    fail_open: Exception | None = None
    fail_at: tuple[int, Exception] | None = None
    fail_close: Exception | None = None
    held: int = 0
    through: list[int] = field(default_factory=list)
    seen_error: list[BaseException | None] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event | None = None

    def open(self, context: Context) -> None:
        self._context, self._waiting = context, list[Item]()
        if self.fail_open:
            raise self.fail_open
        self.log.append(f"open {self.name}")

    def process(self, item: Item) -> Iterator[Item]:
        assert isinstance(item, Frame)
        self.reached.set()
        if self.gate:
            self.gate.wait(10)
        if self.fail_at and item.frame_id == self.fail_at[0]:
            raise self.fail_at[1]
        self._waiting.append(item)
        while len(self._waiting) > self.held:
            yield self._pop()

    def flush(self) -> Iterator[Item]:
        while self._waiting:
            yield self._pop()

    def close(self) -> None:
        self.seen_error.append(self._context.error)
        self.log.append(f"close {self.name}")
        if self.fail_close:
            raise self.fail_close

    def _pop(self) -> Item:
        item = self._waiting.pop(0)
        assert isinstance(item, Frame)
        self.through.append(item.frame_id)
        return item


class Live(Numbers):
    """The same, as if a camera had made it."""

    clock = "wall"


class LastButOpen(Step):
    """A last stage behind which frames go on elsewhere."""

    settles = False


def node(*stages: Stage, uses: dict[int, str] | None = None, channels: dict[int, ChannelSpec] | None = None) -> Node:
    entries = []
    for i, stage in enumerate(stages):
        use = (uses or {}).get(i, f"s{i}")
        entries.append(StageEntry(use, use, stage, (channels or {}).get(i), i + 1))
    return Node("test", None, False, entries)


def context(tmp_path: Path, **values: Any) -> Context:
    return Context("test", tmp_path, **values)
