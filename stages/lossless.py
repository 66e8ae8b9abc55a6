"""Pixels to bytes and back without loss, cheaply: what a recording stores of a side view.

    planes = R - G, G, B - G    modulo 256, one after the other, each of H x W
    bytes  = one Zstandard frame of the planes; every row less the row above it, modulo 256, the first one as it is

Zstandard works as a Huffman coder here: what is left of a picture has no repetitions worth a search. Measured on one
core: 1241x376 in colour 2.0 ms for 59 % of the pixels' bytes, in grey 0.9 ms for 21 %; PNG at its fastest takes 31 and
20 ms for 57 and 33 %.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import WireError
from pipeline.types import Pixels

if TYPE_CHECKING:
    from zstandard import ZstdCompressor

__all__ = ["CODING_ID", "MAX_PIXELS", "Packer", "unpack"]

CODING_ID = b"GUP+ZSTD"
"""The model id of packets with such a payload."""
MAX_PIXELS = 64 * 1024 * 1024
AT_ONCE = 1 << 17
"""Bytes of a picture that are worked on together, so that they stay in a core's own cache."""


class Packer:
    """Packs one picture after another, for one thread: new memory and a new compressor for each would cost as much."""

    def __init__(self) -> None:
        self._differences = self._planes = np.empty(0, np.uint8)

    def pack(self, pixels: Pixels) -> bytes:
        """The bytes of (H, W, 3) uint8."""
        import cv2

        height, width, _ = pixels.shape
        if self._planes.shape[1:] != (height, width):
            self._differences = np.empty((max(1, AT_ONCE // (3 * width)), width, 3), np.uint8)
            self._planes = np.empty((3, height, width), np.uint8)
        differences, planes = self._differences, self._planes
        cv2.split(pixels[:1], list(planes[:, :1]))
        planes[::2, :1] -= planes[1, :1]
        for first in range(1, height, len(differences)):
            rows = pixels[first : first + len(differences)]
            few, here = differences[: len(rows)], planes[:, first : first + len(rows)]
            np.subtract(rows, pixels[first - 1 : first - 1 + len(rows)], out=few)
            cv2.split(few, list(here))
            here[::2] -= here[1]
        return self._compressor.compress(planes.data)

    @cached_property
    def _compressor(self) -> ZstdCompressor:
        import zstandard

        # A target length of 0 has what matches nothing Huffman-coded, which the negative levels don't; a small table
        # and long matches make the search for matches short.
        parameters = zstandard.ZstdCompressionParameters.from_level(
            1, strategy=zstandard.STRATEGY_FAST, target_length=0, hash_log=6, min_match=7
        )
        return zstandard.ZstdCompressor(compression_params=parameters)


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
    differences = np.frombuffer(raw, np.uint8).reshape(3, height, width)
    red, green, blue = np.cumsum(differences, axis=1, dtype=np.uint8)
    pixels: Pixels = np.stack((red + green, green, blue + green), axis=2)
    return pixels
