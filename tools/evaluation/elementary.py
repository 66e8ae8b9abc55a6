"""Elementary streams taken apart: what describes the stream, what is one picture, and what is neither.

A stream's parameters (VPS, SPS and PPS; AV1's sequence header) are sent once, so they are not a cost of every picture.
What an encoder writes about itself (SEI, metadata) and mere separators (temporal and access unit delimiters) are thrown
away: no decoder needs them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Parts", "split_av1", "split_h264", "split_hevc"]

_START_CODE = re.compile(rb"\x00?\x00\x00\x01")


@dataclass(frozen=True, slots=True)
class Parts:
    """The bytes of a coded picture."""

    parameters: bytes
    """What describes the stream; the same for all pictures of one size and setting."""
    picture: bytes


def split_h264(data: bytes) -> Parts:
    """NAL units in Annex B form: SPS (7) and PPS (8) are parameters, SEI (6) and delimiters (9) are dropped."""
    return _split_nal(data, lambda first: first & 0x1F, {7, 8}, {6, 9})


def split_hevc(data: bytes) -> Parts:
    """NAL units in Annex B form: VPS, SPS, PPS (32 to 34) are parameters, delimiters (35) and SEI (39, 40) go."""
    return _split_nal(data, lambda first: first >> 1 & 0x3F, {32, 33, 34}, {35, 39, 40})


def split_av1(data: bytes) -> Parts:
    """OBUs with size fields: the sequence header (1) is a parameter, delimiters (2), metadata (5), padding (15) go."""
    units = list(_obus(data))
    parameters = b"".join(unit for kind, unit in units if kind == 1)
    return Parts(parameters, b"".join(unit for kind, unit in units if kind not in (1, 2, 5, 15)))


def _split_nal(data: bytes, kind_of: Callable[[int], int], parameters: set[int], dropped: set[int]) -> Parts:
    units = [(kind_of(unit[unit.index(1) + 1]), unit) for unit in _nal_units(data)]
    return Parts(
        b"".join(unit for kind, unit in units if kind in parameters),
        b"".join(unit for kind, unit in units if kind not in parameters | dropped),
    )


def _nal_units(data: bytes) -> Iterator[bytes]:
    """Each with its start code."""
    starts = [match.start() for match in _START_CODE.finditer(data)]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        yield data[start:end]


def _obus(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of each."""
    at = 0
    while at < len(data):
        start, header = at, data[at]
        at += 2 if header & 4 else 1
        if not header & 2:
            raise ValueError("an AV1 OBU without size field")
        size = shift = 0
        while True:
            byte = data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        at += size
        yield header >> 3 & 15, data[start:at]
