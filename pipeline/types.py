"""What travels between stages. Frozen, with units in the names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Decoded", "Frame", "Item", "Packet", "Pixels", "Role", "StereoPair", "View", "other_view", "picture_of"]

Pixels = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""

View = Literal["left", "right"]

Role = Literal["primary", "side", "reference"]
"""primary: the view that is coded. side: the other view. reference: a lossless original, sent now and then."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of one camera."""

    pixels: Pixels
    view: View
    frame_id: int
    """The recording's own index (KITTI: the number in the file name); a counter for cameras."""
    pts_ns: int
    """Capture time by the source's own clock, ns."""
    taken_ns: int
    """When the source handed the frame over, by this machine's wall clock, ns since the Unix epoch."""
    role: Role = "primary"

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True, slots=True)
class Packet:
    """One coded picture: what the wire carries, a recording stores and a `.sdc` file is. See `pipeline.wire`."""

    frame_id: int
    view: View
    role: Role
    pts_ns: int
    taken_ns: int
    model_id: bytes
    """8 bytes: the start of SHA-256 over weights and coding tables; `JPEG` or `PNG` padded with zeros for those."""
    width: int
    height: int
    quality: float
    payload: bytes
    """Opaque to everything but the codec that made it."""
    stream_id: int = 0
    """Random at each start of an encoder; filled in by `send`."""
    sequence: int = 0
    sent_ns: int = 0
    clock_offset_ns: int = 0
    """Add to the sender's stamps to get the receiver's wall clock."""


@dataclass(frozen=True, slots=True)
class StereoPair:
    """The primary view, coded or not yet, with the side view that belongs to it, if there is one."""

    primary: Packet | Frame
    side: Frame | None
    offset_ns: int = 0
    """pts of the side view minus pts of the primary view, both by one clock."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The primary view back again, with what it was made from and what it can be compared with."""

    frame: Frame
    side: Frame | None
    without_side: Frame | None
    """The same payload decoded without the side view, on sampled frames."""
    reference: Frame | None
    """The original, where one is known."""
    packet: Packet


Item = Frame | Packet | StereoPair | Decoded


def other_view(view: View) -> View:
    """The view of the other camera."""
    return "right" if view == "left" else "left"


def picture_of(item: Item) -> Frame | None:
    """The primary view that an item shows; None while that is coded, and for a side view or reference on its own."""
    match item:
        case Frame(role="primary"):
            return item
        case StereoPair(primary=Frame() as primary):
            return primary
        case Decoded():
            return item.frame
        case _:
            return None


def frame_id_of(item: Item) -> int:
    """The frame_id of the primary view that an item carries."""
    match item:
        case Frame() | Packet():
            return item.frame_id
        case StereoPair():
            return item.primary.frame_id
        case Decoded():
            return item.frame.frame_id


def stamped_of(item: Item) -> Frame | Packet:
    """The part of an item that carries the primary view's stamps, as they left the source's machine."""
    match item:
        case Decoded():
            return item.packet
        case StereoPair():
            return item.primary
        case _:
            return item


def role_of(item: Item) -> Role:
    """Whether an item carries the primary view, or a side view or reference on its own."""
    return item.role if isinstance(item, Frame | Packet) else "primary"
