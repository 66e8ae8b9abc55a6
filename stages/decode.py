"""Packets of the primary view back to frames, with the help of the side view."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.errors import StageError
from pipeline.latency import Cause
from pipeline.stage import Context, Stage
from pipeline.types import Decoded, Frame, Item, Packet, StereoPair, View
from stages.troubles import Troubles

if TYPE_CHECKING:
    from stages.codec import Codec, Prepared
    from stages.cores import Cores, Room

__all__ = ["Decode"]

REFERENCES_KEPT = 8
"""Originals that wait for their packet; an older one gives way. They are kept as PNG, so a hostile sender fills a few
MB at most."""


@dataclass(kw_only=True)
class Decode(Stage):
    """Decode every primary packet, paired or not; originals that were sent along are attached, the rest passes."""

    cause: ClassVar[Cause | None] = "decode"

    weights: Annotated[str, Field(description="name of shipped weights, or path of a .safetensors file")] = "default"
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto: CUDA where there is one")] = "auto"
    fit: Annotated[
        Literal["tiles", "resize"] | None,
        Field(
            description="weights of one fixed size (cross_attention) only: cut pictures into tiles of it, or resize "
            "them to it; null: as the weights say. encode must have the same"
        ),
    ] = None
    without_side_every: Annotated[
        int | None, Field(ge=1, description="decode every n-th frame without the side view too; null: never")
    ] = None
    max_pixels: Annotated[int, Field(ge=1, description="larger pictures are refused before they are allocated")] = 2**24

    _context: Context = field(init=False, repr=False)
    _codec: Codec = field(init=False, repr=False)
    _cores: Cores = field(init=False, repr=False)
    _room: Room = field(init=False, repr=False)
    _troubles: Troubles | None = field(init=False, repr=False, default=None)
    _packets: int = field(init=False, repr=False, default=0)
    _references: dict[int, Packet] = field(init=False, repr=False, default_factory=dict)

    def open(self, context: Context) -> None:
        from stages.codec import CodecError, load_codec
        from stages.cores import Cores, Room

        self._cores, self._room = Cores(context.threads), Room(self.max_pixels)
        try:
            self._codec = load_codec(self.weights, device=self.device, fit=self.fit, max_pixels=self.max_pixels)
        except CodecError as error:
            raise StageError("decode", None, str(error)) from error
        self._context, self._troubles = context, Troubles(context)
        if works_on := self._codec.description.get("works_on"):
            context.log.info("decode: %s works on %s", self._codec.name, works_on)
        context.facts.update(
            model=self._codec.name, model_id=self._codec.model_id.hex(), device=str(self._codec.device)
        )

    @property
    def at_once(self) -> int:
        return self._cores.at_once

    def process(self, item: Item) -> Iterator[Item]:
        match item:
            case StereoPair(primary=Packet() as packet, side=side):
                return self._begin(packet, side)
            case Packet(role="primary"):
                return self._begin(item, None)
            case Packet(role="reference"):
                self._remember(item)
                return iter(())
            case _:
                return iter((item,))

    def close(self) -> None:
        if self._troubles is not None:
            self._troubles.close()
        self._references.clear()

    def _begin(self, packet: Packet, side: Frame | None) -> Iterator[Decoded]:
        """What depends on the order of the packets is done here, the rest when it is drawn."""
        due = self.without_side_every is not None and self._packets % self.without_side_every == 0
        self._packets += 1
        sampled = due and side is not None and not self._codec.needs_side
        return self._decode(packet, side, sampled, self._references.pop(packet.frame_id, None))

    def _decode(self, packet: Packet, side: Frame | None, sampled: bool, reference: Packet | None) -> Iterator[Decoded]:
        from stages.codec import BitstreamError, CodecError

        self._check_model(packet)
        if side is None and self._codec.needs_side:
            self._context.ledger.drop(packet.frame_id, "unpaired")
            self._say(f"decode: frame {packet.frame_id} is dropped, model {self._codec.name} needs a side view")
            return
        try:
            if objection := self._objection_to_size(packet):
                self._refuse(packet, "size", objection)
                return
            self._check_side(packet, side)
            decoded = self._decoded_from(packet, side, sampled, reference)
        except BitstreamError as error:
            self._refuse(packet, "bitstream", str(error))
        except CodecError as error:
            raise StageError("decode", packet.frame_id, str(error)) from error
        else:
            yield decoded

    def _refuse(self, packet: Packet, kind: str, why: str) -> None:
        self._context.ledger.drop(packet.frame_id, "corrupt")
        self._context.metrics.decode_errors.labels(kind).inc()
        self._say(f"decode: frame {packet.frame_id} is dropped as corrupt: {why}")

    def _decoded_from(self, packet: Packet, side: Frame | None, sampled: bool, reference: Packet | None) -> Decoded:
        with self._room.taken(packet.width * packet.height):
            frame = self._pixels(packet, side)
            without_side = self._pixels(packet, None) if sampled else None
        self._context.metrics.pixels.inc(packet.width * packet.height)
        return Decoded(frame, side, without_side, self._picture_of(reference), packet)

    def _pixels(self, packet: Packet, side: Frame | None) -> Frame:
        import torch

        from stages.tensors import to_pixels

        self._cores.claim()
        with torch.inference_mode():
            prepared = None if side is None else self._prepared(side, packet.view)
            pixels = to_pixels(self._codec.decode(packet.payload, prepared=prepared), primary=packet.view)
        return Frame(pixels, packet.view, packet.frame_id, packet.pts_ns, packet.taken_ns)

    def _prepared(self, side: Frame, primary: View) -> Prepared:
        from stages.tensors import to_tensor

        return self._codec.prepare(to_tensor(side.pixels, self._codec.device, primary=primary))

    def _say(self, sentence: str) -> None:
        if self._troubles is not None:
            self._troubles.say(sentence)

    def _check_model(self, packet: Packet) -> None:
        if packet.model_id != self._codec.model_id:
            raise StageError(
                "decode",
                packet.frame_id,
                f"the packet was coded with weights {_shown(packet.model_id)}, "
                f"this decoder has {self._codec.model_id.hex()} ({self._codec.name})",
            )

    def _objection_to_size(self, packet: Packet) -> str | None:
        """Ask the payload for its size before anything is allocated. Raises BitstreamError where it does not say."""
        header = self._codec.header(packet.payload)
        claim = f"the payload claims {header.width}x{header.height} pixels"
        if header.width * header.height > self.max_pixels:
            return f"{claim}, more than max_pixels {self.max_pixels}"
        if (header.width, header.height) != (packet.width, packet.height):
            return f"{claim}, its packet {packet.width}x{packet.height}"
        return None

    def _check_side(self, packet: Packet, side: Frame | None) -> None:
        if side is not None and (side.width, side.height) != (packet.width, packet.height):
            raise StageError(
                "decode",
                packet.frame_id,
                f"the primary view is {packet.width}x{packet.height} and the side view {side.width}x{side.height}; "
                "give both sources the same `size`",
            )

    def _remember(self, packet: Packet) -> None:
        self._references[packet.frame_id] = packet
        while len(self._references) > REFERENCES_KEPT:
            del self._references[next(iter(self._references))]

    def _picture_of(self, reference: Packet | None) -> Frame | None:
        from stages.picture import UnreadablePictureError, decode_picture

        if reference is None:
            return None
        try:
            pixels = decode_picture(reference.payload, self.max_pixels)
        except UnreadablePictureError as error:
            self._context.metrics.decode_errors.labels("picture").inc()
            self._say(f"decode: the original of frame {reference.frame_id} is left out: {error}")
            return None
        return Frame(pixels, reference.view, reference.frame_id, reference.pts_ns, reference.taken_ns, role="reference")


def _shown(model_id: bytes) -> str:
    """A model id for people: `JPEG` and `PNG` by name, weights in hex."""
    name = model_id.rstrip(b"\0")
    return name.decode() if name in (b"JPEG", b"PNG") else model_id.hex()
