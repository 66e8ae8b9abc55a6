"""Frames to PNG files, one per frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.latency import Cause
from pipeline.stage import Context, Stage
from pipeline.types import Item, picture_of
from stages.sinks.atomic import write_atomically

__all__ = ["WriteImages"]


@dataclass(kw_only=True)
class WriteImages(Stage):
    """Write `PATH/0000000042.png` for the primary view of frame 42, decoded or never coded; the items pass."""

    cause: ClassVar[Cause | None] = "show"

    path: Annotated[str, Field(min_length=1, description="folder, relative to --out")] = "images"

    _context: Context = field(init=False, repr=False)

    def open(self, context: Context) -> None:
        self._context = context

    def process(self, item: Item) -> Iterator[Item]:
        from stages.picture import encode_png

        frame = picture_of(item)
        if frame is not None:
            file = self._context.out / self.path / f"{frame.frame_id:010d}.png"
            write_atomically(file, encode_png(frame.pixels), "write_images", frame.frame_id)
            self._context.facts.setdefault("images", str(file.parent))
        yield item
