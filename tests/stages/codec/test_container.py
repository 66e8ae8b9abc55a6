"""The payload's header."""

import numpy as np
import pytest

from stages.codec.container import HEADER_BYTES, Header, checksum, pack, parse
from stages.codec.errors import BitstreamError, CodecError


def test_header_has_the_specified_bytes():
    payload = pack(Header(width=0x0102, height=0x0304, quality=24.5), 0xABCD, b"wxyz")
    assert payload == bytes([2, 1, 4, 3, 0x80, 24, 0xCD, 0xAB]) + b"wxyz"


def test_parse_undoes_pack():
    header = Header(65535, 1, 63.00390625)
    assert parse(pack(header, 7, b"")) == (header, 7, b"")


@pytest.mark.parametrize("length", range(HEADER_BYTES))
def test_short_payload_is_refused(length):
    with pytest.raises(BitstreamError, match=f"this one has {length}"):
        parse(bytes([1] * length))


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0)])
def test_empty_picture_is_refused(width, height):
    payload = bytes([width, 0, height, 0, 0, 0, 0, 0])
    with pytest.raises(BitstreamError, match=f"{width} x {height}"):
        parse(payload)


def test_sizes_beyond_sixteen_bits_are_refused():
    with pytest.raises(CodecError, match="65536 x 2"):
        Header(65536, 2, 0).to_bytes()


def test_checksum_covers_symbols_and_header():
    symbols = np.arange(-5, 5, dtype=np.int32)
    plain = checksum(Header(4, 4, 1), symbols)
    assert plain != checksum(Header(4, 4, 1), symbols + np.eye(1, 10, 3, dtype=np.int32)[0])
    assert plain != checksum(Header(4, 4, 1.25), symbols)
    assert 0 <= plain < 1 << 16
