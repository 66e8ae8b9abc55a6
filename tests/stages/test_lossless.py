from __future__ import annotations

import numpy as np
import pytest
import zstandard
from specimens import picture

from pipeline.errors import WireError
from stages.lossless import Packer, unpack

pack = Packer().pack


@pytest.mark.parametrize(("width", "height"), [(64, 48), (1, 1), (1, 9), (1241, 3)])
def test_every_pixel_comes_back(width, height):
    packer = Packer()
    for pixels in (picture(width, height), np.full((height, width, 3), 255, np.uint8)):
        assert (unpack(packer.pack(pixels), width, height) == pixels).all()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PNG",
        pack(picture(64, 48))[:-9],
        pack(picture(64, 47)),
        zstandard.ZstdCompressor().compress(bytes(1 << 24)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 * 48 * 3)),
    ],
)
def test_what_is_no_such_picture_is_refused(data):
    with pytest.raises(WireError):
        unpack(data, 64, 48)
