from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.types import Pixels
from stages.picture import (
    UnreadablePictureError,
    decode_picture,
    encode_jpeg,
    encode_png,
    picture_size,
    read_picture,
    resize,
)


def gradient(width: int = 60, height: int = 40) -> Pixels:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 4, y * 5, (x + y) * 2], -1).astype(np.uint8)


PNG, JPEG = encode_png(gradient()), encode_jpeg(gradient(), 90)


def test_png_comes_back_exactly() -> None:
    assert np.array_equal(decode_picture(PNG), gradient())


def test_jpeg_comes_back_closely_in_rgb_order() -> None:
    assert np.abs(decode_picture(JPEG).astype(int) - gradient()).mean() < 4


def test_jpeg_grows_with_quality() -> None:
    assert len(encode_jpeg(gradient(), 20)) < len(encode_jpeg(gradient(), 95))


@pytest.mark.parametrize("data", [PNG, JPEG], ids=["png", "jpeg"])
def test_size_is_known_without_decoding(data: bytes) -> None:
    assert picture_size(data) == (60, 40)


@pytest.mark.parametrize("data", [PNG, JPEG], ids=["png", "jpeg"])
def test_every_truncation_is_unreadable(data: bytes) -> None:
    for end in range(len(data)):
        with pytest.raises(UnreadablePictureError):
            decode_picture(data[:end])


def test_a_flipped_bit_in_a_png_is_unreadable() -> None:
    damaged = bytearray(PNG)
    damaged[len(PNG) // 2] ^= 4
    with pytest.raises(UnreadablePictureError, match="CRC"):
        decode_picture(bytes(damaged))


def test_a_huge_claim_is_refused_before_it_is_allocated() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)
    claim = PNG[:8] + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + PNG[33:]
    with pytest.raises(UnreadablePictureError, match="1073741824x1073741824"):
        decode_picture(claim)


def test_other_kinds_are_named_by_their_first_bytes() -> None:
    with pytest.raises(UnreadablePictureError, match=r"neither PNG nor JPEG.*47 49 46 38"):
        decode_picture(b"GIF89a....")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", PNG[:8], JPEG[:20], PNG[:60]]))
def test_any_bytes_are_a_picture_or_an_error(data: bytes, start: bytes) -> None:
    with contextlib.suppress(UnreadablePictureError):
        assert decode_picture(start + data).shape[2] == 3


def test_grey_alpha_and_16_bits_become_rgb(tmp_path: Path) -> None:
    grey = gradient()[..., 0]
    alpha = np.dstack([gradient()[..., ::-1], grey])
    for name, stored in (("grey", grey), ("alpha", alpha), ("deep", grey.astype(np.uint16) * 257)):
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), stored)
        pixels = read_picture(path)
        assert pixels.shape == (40, 60, 3)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels[..., 0], grey)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePictureError, match=r"gone\.png: No such file"):
        read_picture(tmp_path / "gone.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnreadablePictureError, match=r"empty\.png: the file is empty"):
        read_picture(tmp_path / "empty.png")


@pytest.mark.parametrize("size", [(60, 40), (30, 20), (30, 40), (64, 16), (120, 90), (61, 40)])
def test_resize_gives_the_size_without_bars(size: tuple[int, int]) -> None:
    pixels = resize(np.full((40, 60, 3), 200, np.uint8), size)
    assert pixels.shape == (size[1], size[0], 3)
    assert pixels.min() > 195


def test_resize_crops_the_centre() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    assert resize(pixels, (20, 40)).min() == 255
    assert resize(pixels, None) is pixels
