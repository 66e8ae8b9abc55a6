"""Frames of the primary view to packets, with a learned codec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.errors import ConfigError, StageError
from pipeline.latency import Cause
from pipeline.stage import Context, Stage
from pipeline.types import Frame, Item, Packet

if TYPE_CHECKING:
    from stages.codec import Codec
    from stages.cores import Cores

__all__ = ["Encode"]

PNG_ID = b"PNG".ljust(8, b"\0")


@dataclass(kw_only=True)
class Encode(Stage):
    """Code every primary frame; everything else passes."""

    cause: ClassVar[Cause | None] = "encode"

    weights: Annotated[str, Field(description="name of shipped weights, or path of a .safetensors file")] = "default"
    quality: Annotated[
        float | None, Field(ge=0, description="rate point, 0 = fewest bits; null: the default of the weights")
    ] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto: CUDA where there is one")] = "auto"
    fit: Annotated[
        Literal["tiles", "resize"] | None,
        Field(
            description="weights of one fixed size (cross_attention) only: cut pictures into tiles of it, or resize "
            "them to it; null: as the weights say. decode must have the same"
        ),
    ] = None
    reference_every_s: Annotated[
        float | None,
        Field(gt=0, description="send a lossless original at these intervals of capture time; null: never"),
    ] = None

    _context: Context = field(init=False, repr=False)
    _codec: Codec = field(init=False, repr=False)
    _cores: Cores = field(init=False, repr=False)
    _quality: float = field(init=False, repr=False, default=0.0)
    _reference_due_ns: int | None = field(init=False, repr=False, default=None)

    def open(self, context: Context) -> None:
        from stages.codec import CodecError, load_codec
        from stages.cores import Cores

        self._cores = Cores(context.threads)
        try:
            self._codec = load_codec(self.weights, device=self.device, fit=self.fit)
        except CodecError as error:
            raise StageError("encode", None, str(error)) from error
        self._context = context
        self._quality = self._checked_quality()
        if works_on := self._codec.description.get("works_on"):
            context.log.info("encode: %s works on %s", self._codec.name, works_on)
        context.facts.update(
            model=self._codec.name,
            model_id=self._codec.model_id.hex(),
            quality=self._quality,
            encode_device=str(self._codec.device),
        )

    @property
    def at_once(self) -> int:
        return self._cores.at_once

    def process(self, item: Item) -> Iterator[Item]:
        if not isinstance(item, Frame) or item.role != "primary":
            return iter((item,))
        return self._encode(item, with_reference=self._reference_is_due(item))

    def _encode(self, frame: Frame, *, with_reference: bool) -> Iterator[Packet]:
        if with_reference:
            yield self._reference(frame)
        payload = self._coded(frame)
        self._account(frame, payload)
        yield _packet(frame, "primary", self._codec.model_id, self._quality, payload)

    def _checked_quality(self) -> float:
        lowest, highest = self._codec.quality_range
        quality = self._codec.default_quality if self.quality is None else self.quality
        if not lowest <= quality <= highest:
            raise ConfigError(
                f"encode: quality {quality:g} is outside the range of {self._codec.name}, {lowest:g} to {highest:g}"
            )
        return float(quality)

    def _coded(self, frame: Frame) -> bytes:
        import torch

        from stages.codec import CodecError
        from stages.tensors import to_tensor

        self._cores.claim()
        try:
            with torch.inference_mode():
                x = to_tensor(frame.pixels, self._codec.device, primary=frame.view)
                return self._codec.encode(x, quality=self._quality)
        except CodecError as error:
            raise StageError("encode", frame.frame_id, str(error)) from error

    def _account(self, frame: Frame, payload: bytes) -> None:
        pixels, metrics = frame.width * frame.height, self._context.metrics
        self._context.ledger.note(frame.frame_id, payload_bytes=len(payload), bpp=8 * len(payload) / pixels)
        metrics.payload_bytes.labels("primary").inc(len(payload))
        metrics.pixels.inc(pixels)
        metrics.raw_bytes.inc(3 * pixels)
        self._context.facts.update(width=frame.width, height=frame.height)

    def _reference_is_due(self, frame: Frame) -> bool:
        if self.reference_every_s is None:
            return False
        if self._reference_due_ns is not None and frame.pts_ns < self._reference_due_ns:
            return False
        self._reference_due_ns = frame.pts_ns + round(self.reference_every_s * 1e9)
        return True

    def _reference(self, frame: Frame) -> Packet:
        """The original, ahead of its packet, so that it is there when the packet is decoded."""
        from stages.picture import encode_png

        payload = encode_png(frame.pixels)
        self._context.metrics.payload_bytes.labels("reference").inc(len(payload))
        return _packet(frame, "reference", PNG_ID, 0.0, payload)


def _packet(
    frame: Frame, role: Literal["primary", "reference"], model_id: bytes, quality: float, payload: bytes
) -> Packet:
    return Packet(
        frame_id=frame.frame_id,
        view=frame.view,
        role=role,
        pts_ns=frame.pts_ns,
        taken_ns=frame.taken_ns,
        model_id=model_id,
        width=frame.width,
        height=frame.height,
        quality=quality,
        payload=payload,
    )
