"""Whether a file is a recording of ours, by how it begins."""

from __future__ import annotations

import struct
from contextlib import suppress
from io import BytesIO

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Header

from pipeline.errors import SourceError
from pipeline.recording import layout
from pipeline.recording.layout import MAGIC
from pipeline.recording.records import Damage, Records

__all__ = ["recognise"]

MOST_WRONG = 8
"""One of so many bytes may be wrong in a beginning that is still ours."""


def recognise(records: Records) -> Damage | None:
    """The damage at the beginning of a recording, if any. Raises SourceError for a file that is none."""
    path, expected = records.path, layout.prefix()
    if records.size == 0:
        raise SourceError(f"{path} is empty, expected a recording")
    found = records.read(0, len(expected))
    if found == expected:
        return None
    wrong = [i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b]
    if len(wrong) > len(found) // MOST_WRONG:
        raise SourceError(f"{path} {_what_it_is(records, found)}")
    if len(found) < len(expected):
        raise SourceError(f"{path} is cut off after {len(found)} bytes, before anything was recorded")
    return Damage(str(path), wrong[0], wrong[-1] + 1, "the beginning of the file")


def _what_it_is(records: Records, found: bytes) -> str:
    if not found.startswith(MAGIC):
        return f"is no recording: expected an MCAP file, found one that begins with {found[:8]!r}"
    header = _header(records)
    if header is None:
        return "is an MCAP file whose header is cut off or damaged, and nothing of ours follows"
    if header.profile != layout.PROFILE:
        by = f", written by {header.library[:60]!r}" if header.library else ""
        return f"is an MCAP file of profile {header.profile[:60]!r}{by}, expected one that sidecast recorded"
    return f"is a {header.library[:60]!r}, this version of sidecast reads {layout.LIBRARY!r}: use that version"


def _header(records: Records) -> Header | None:
    opcode, end = records.record_at(len(MAGIC))
    if opcode != Opcode.HEADER or not end:
        return None
    body = records.read(len(MAGIC) + 9, end)
    with suppress(McapError, struct.error, UnicodeDecodeError):
        header: Header = Header.read(ReadDataStream(BytesIO(body)))
        return header
    return None
