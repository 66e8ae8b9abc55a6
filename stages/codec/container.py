"""The payload of one picture. This docstring is its specification.

    offset  bytes  field
    0       2      width, pixels, 1 to 65535
    2       2      height, pixels, 1 to 65535
    4       2      quality, in 1/256
    6       2      checksum: the lower 16 bits of CRC-32 over bytes 0 to 5, followed by the symbols as int16
    8       4 n    coded words, see `stages.codec.entropy`

All numbers are unsigned and little-endian. The symbols enter the checksum in the order channel, row, column; those of a
hyper latent come before those of the latent. Their number follows from the size: the picture is padded at the right and
at the bottom, by repeating its last column and row, to a multiple that the model fixes; what was padded is cut off
again after decoding. A model of one fixed size may resize the picture instead (`stages.codec.fit`).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.codec.errors import BitstreamError, CodecError

__all__ = ["HEADER_BYTES", "QUALITY_STEPS", "Header", "checksum", "pack", "parse"]

QUALITY_STEPS = 256
"""Quality travels in steps of 1/256."""

_SIZES = struct.Struct("<3H")
_CHECKSUM = struct.Struct("<H")
HEADER_BYTES = _SIZES.size + _CHECKSUM.size


@dataclass(frozen=True, slots=True)
class Header:
    """What a payload says about itself before any symbol is decoded."""

    width: int
    height: int
    quality: float

    def to_bytes(self) -> bytes:
        """The first six bytes of a payload."""
        if not (1 <= self.width <= 0xFFFF and 1 <= self.height <= 0xFFFF):
            raise CodecError(
                f"a picture of {self.width} x {self.height} pixels was given, 1 to 65535 each are possible"
            )
        return _SIZES.pack(self.width, self.height, round(self.quality * QUALITY_STEPS))


def checksum(header: Header, *groups: NDArray[np.int32]) -> int:
    """16 bits that change when the header or one of the groups of symbols (int16 range) does."""
    crc = zlib.crc32(header.to_bytes())
    for symbols in groups:
        crc = zlib.crc32(symbols.astype("<i2").tobytes(), crc)
    return crc & 0xFFFF


def pack(header: Header, check: int, words: bytes) -> bytes:
    """The payload."""
    return header.to_bytes() + _CHECKSUM.pack(check) + words


def parse(payload: bytes) -> tuple[Header, int, bytes]:
    """Header, checksum and coded words of a payload; BitstreamError if it can't be one."""
    if len(payload) < HEADER_BYTES:
        raise BitstreamError(f"a payload has at least {HEADER_BYTES} bytes, this one has {len(payload)}")
    width, height, quality = _SIZES.unpack_from(payload)
    if not (width and height):
        raise BitstreamError(f"the payload's header says {width} x {height} pixels, no picture has that size")
    (check,) = _CHECKSUM.unpack_from(payload, _SIZES.size)
    return Header(width, height, quality / QUALITY_STEPS), check, bytes(payload[HEADER_BYTES:])
