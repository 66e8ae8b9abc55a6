"""Pictures that show at a glance what a frame cost and what the side view gave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.latency import Cause
from pipeline.stage import Context, Stage
from pipeline.types import Decoded, Item
from stages.sinks.atomic import write_atomically

__all__ = ["WritePanels"]


@dataclass(kw_only=True)
class WritePanels(Stage):
    """Write a panel of some frames: original, side view, decoded without and with it, error. The items pass."""

    cause: ClassVar[Cause | None] = "show"

    path: Annotated[str, Field(min_length=1, description="folder, relative to --out")] = "panels"
    every: Annotated[
        int | None,
        Field(ge=1, description="every n-th frame; null: the first, and those also decoded without the side view"),
    ] = None
    max: Annotated[int, Field(ge=1, description="panels at most")] = 8

    _context: Context = field(init=False, repr=False)
    _seen: int = field(init=False, repr=False, default=0)
    _written: int = field(init=False, repr=False, default=0)

    def open(self, context: Context) -> None:
        import matplotlib.figure  # noqa: F401 - takes a second, which the first frame should not wait for

        self._context = context

    def process(self, item: Item) -> Iterator[Item]:
        if isinstance(item, Decoded):
            if self._written < self.max and self._is_chosen(item):
                self._write(item)
                self._written += 1
            self._seen += 1
        yield item

    def _is_chosen(self, item: Decoded) -> bool:
        if self.every is not None:
            return self._seen % self.every == 0
        return self._seen == 0 or item.without_side is not None

    def _write(self, item: Decoded) -> None:
        from stages.picture import encode_png
        from stages.sinks.panel import cells_of, draw

        frame, size = item.frame, len(item.packet.payload)
        bpp = 8 * size / (frame.width * frame.height)
        model = self._context.facts.get("model", "")
        detail = f"{model}   {frame.width} x {frame.height}   {size:,} bytes   {bpp:.3f} bpp".strip()
        picture = draw(f"Frame {frame.frame_id}", detail, cells_of(item))
        file = self._context.out / self.path / f"{frame.frame_id:010d}.png"
        write_atomically(file, encode_png(picture), "write_panels", frame.frame_id)
        self._context.facts.setdefault("panel", str(file))
