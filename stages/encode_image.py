"""Frames to JPEG or PNG packets: a side view that has to travel, or a comparison with the learned codec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.latency import Cause
from pipeline.stage import Context, Stage
from pipeline.types import Frame, Item, Packet

__all__ = ["EncodeImage"]


@dataclass(kw_only=True)
class EncodeImage(Stage):
    """Code every frame of one role as a picture; everything else passes."""

    cause: ClassVar[Cause | None] = "encode"

    role: Annotated[Literal["side", "primary"], Field(description="the view that is coded")] = "side"
    format: Annotated[Literal["jpeg", "png"], Field(description="png is lossless")] = "jpeg"
    jpeg_quality: Annotated[int, Field(ge=1, le=100, description="quality of jpeg; png has none")] = 90

    _context: Context = field(init=False, repr=False)

    def open(self, context: Context) -> None:
        self._context = context
        if self.role == "primary":
            context.facts.update(
                model=self.format, model_id=self._model_id.hex(), quality=self._quality, encode_device="cpu"
            )

    def process(self, item: Item) -> Iterator[Item]:
        if not isinstance(item, Frame) or item.role != self.role:
            yield item
            return
        payload = self._coded(item)
        self._account(item, payload)
        yield Packet(
            frame_id=item.frame_id,
            view=item.view,
            role=self.role,
            pts_ns=item.pts_ns,
            taken_ns=item.taken_ns,
            model_id=self._model_id,
            width=item.width,
            height=item.height,
            quality=self._quality,
            payload=payload,
        )

    @property
    def _model_id(self) -> bytes:
        return self.format.upper().encode().ljust(8, b"\0")

    @property
    def _quality(self) -> float:
        return float(self.jpeg_quality) if self.format == "jpeg" else 0.0

    def _coded(self, frame: Frame) -> bytes:
        from stages.picture import encode_jpeg, encode_png

        return encode_jpeg(frame.pixels, self.jpeg_quality) if self.format == "jpeg" else encode_png(frame.pixels)

    def _account(self, frame: Frame, payload: bytes) -> None:
        metrics = self._context.metrics
        metrics.payload_bytes.labels(self.role).inc(len(payload))
        if self.role == "side":
            return
        pixels = frame.width * frame.height
        self._context.ledger.note(frame.frame_id, payload_bytes=len(payload), bpp=8 * len(payload) / pixels)
        metrics.pixels.inc(pixels)
        metrics.raw_bytes.inc(3 * pixels)
        self._context.facts.update(width=frame.width, height=frame.height)
