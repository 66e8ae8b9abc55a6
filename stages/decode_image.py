"""JPEG and PNG packets back to frames: the side view for `pair`, or the primary view of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.latency import Cause
from pipeline.stage import Context, Stage
from pipeline.types import Decoded, Frame, Item, Packet, StereoPair
from stages.troubles import Troubles

__all__ = ["PICTURES", "DecodeImage"]

PICTURES = (b"JPEG".ljust(8, b"\0"), b"PNG".ljust(8, b"\0"))
"""The model ids of packets whose payload is a picture file."""


@dataclass(kw_only=True)
class DecodeImage(Stage):
    """Decode every side or primary packet that `encode_image` made; everything else passes."""

    cause: ClassVar[Cause | None] = "decode"

    max_pixels: Annotated[int, Field(ge=1, description="larger pictures are refused before they are allocated")] = 2**24

    _context: Context = field(init=False, repr=False)
    _troubles: Troubles | None = field(init=False, repr=False, default=None)

    def open(self, context: Context) -> None:
        self._context, self._troubles = context, Troubles(context)

    def process(self, item: Item) -> Iterator[Item]:
        match item:
            case StereoPair(primary=Packet(model_id=model_id) as packet) if model_id in PICTURES:
                yield from self._primary(packet)
            case Packet(role="primary", model_id=model_id) if model_id in PICTURES:
                yield from self._primary(item)
            case Packet(role="side", model_id=model_id) if model_id in PICTURES:
                yield from self._frame(item)
            case _:
                yield item

    def close(self) -> None:
        if self._troubles is not None:
            self._troubles.close()

    def _primary(self, packet: Packet) -> Iterator[Decoded]:
        """The comparison; a side view that is paired with it helps nothing and is left out."""
        name = packet.model_id.rstrip(b"\0").decode().lower()
        self._context.facts.update(model=name, model_id=packet.model_id.hex(), device="cpu")
        for frame in self._frame(packet):
            self._context.metrics.pixels.inc(frame.width * frame.height)
            yield Decoded(frame, None, None, None, packet)

    def _frame(self, packet: Packet) -> Iterator[Frame]:
        """The picture as a frame; none, and a word in the log, where it is damaged."""
        from stages.picture import UnreadablePictureError, decode_picture

        try:
            pixels = decode_picture(packet.payload, self.max_pixels)
            found = (pixels.shape[1], pixels.shape[0])
            if found != (packet.width, packet.height):
                raise UnreadablePictureError(
                    f"the picture is {found[0]}x{found[1]}, its packet says {packet.width}x{packet.height}"
                )
        except UnreadablePictureError as error:
            self._refuse(packet, str(error))
            return
        yield Frame(pixels, packet.view, packet.frame_id, packet.pts_ns, packet.taken_ns, packet.role)

    def _refuse(self, packet: Packet, why: str) -> None:
        """A damaged side view leaves its frame unpaired; a damaged primary view is the end of its frame."""
        if packet.role == "primary":
            self._context.ledger.drop(packet.frame_id, "corrupt")
        self._context.metrics.decode_errors.labels("picture").inc()
        if self._troubles is not None:
            self._troubles.say(f"decode_image: the {packet.role} view of frame {packet.frame_id} is left out: {why}")
