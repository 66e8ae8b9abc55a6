"""Pixels to bytes and back without loss, cheaply: what a recording stores of a side view.

    bytes = one Zstandard frame of the rows in order, RGB, each value less that of the pixel to its left, modulo 256

Measured on 640x192 frames of a KITTI drive: 1.0 ms for 127 kB, where PNG at its fastest takes 4.9 ms for 97 kB. At the
pace of a decoder that is the difference between 1 % and 6 % of its processor time.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import WireError
from pipeline.types import Pixels

__all__ = ["CODING_ID", "MAX_PIXELS", "pack", "unpack"]

CODING_ID = b"SUB+ZSTD"
"""The model id of packets with such a payload."""
MAX_PIXELS = 64 * 1024 * 1024
LEVEL = -3


def pack(pixels: Pixels) -> bytes:
    """The bytes of (H, W, 3) uint8."""
    import zstandard

    differences = np.empty_like(pixels, order="C")
    differences[:, :1] = pixels[:, :1]
    np.subtract(pixels[:, 1:], pixels[:, :-1], out=differences[:, 1:])
    return zstandard.ZstdCompressor(level=LEVEL).compress(differences.data)


def unpack(data: bytes, width: int, height: int) -> Pixels:
    """(H, W, 3) uint8. Raises WireError where the bytes are not those of such a picture; allocates no more than it."""
    import zstandard

    size = width * height * 3
    try:
        claimed = zstandard.get_frame_parameters(data).content_size
        if width * height > MAX_PIXELS or claimed != size:
            raise WireError(f"expected a picture of {width}x{height} in {size} bytes, found one of {claimed}")
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    except zstandard.ZstdError as error:
        raise WireError(f"a side view that cannot be decompressed: {error}") from error
    differences = np.frombuffer(raw, np.uint8).reshape(height, width, 3)
    pixels: Pixels = np.cumsum(differences, axis=1, dtype=np.uint8)
    return pixels
