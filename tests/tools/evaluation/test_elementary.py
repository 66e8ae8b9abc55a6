"""Streams made by hand, taken apart."""

from __future__ import annotations

import pytest

from tools.evaluation.elementary import split_av1, split_h264, split_hevc


def test_hevc_keeps_slices_and_drops_what_the_encoder_says_of_itself() -> None:
    vps, sps, pps, sei, picture = (bytes([kind << 1, 1, kind]) for kind in (32, 33, 34, 39, 19))
    long, short = b"\0\0\0\1", b"\0\0\1"
    parts = split_hevc(long + vps + long + sps + long + pps + short + sei + short + picture)
    assert parts.parameters == long + vps + long + sps + long + pps
    assert parts.picture == short + picture


def test_h264_keeps_slices_and_drops_what_the_encoder_says_of_itself() -> None:
    units = [b"\0\0\1" + bytes([0x60 | kind, 9]) for kind in (9, 7, 8, 6, 5, 5)]
    parts = split_h264(b"".join(units))
    assert parts.parameters == units[1] + units[2]
    assert parts.picture == units[4] + units[5]


def test_av1_keeps_frames_and_drops_delimiters() -> None:
    delimiter, metadata = b"\x12\x00", b"\x2a\x01\xff"
    header, frame = b"\x0a\x02\x11\x22", b"\x32\x81\x01" + bytes(129)
    parts = split_av1(delimiter + header + metadata + frame)
    assert (parts.parameters, parts.picture) == (header, frame)


def test_av1_without_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="without size field"):
        split_av1(b"\x30\x00")
