"""A file as MCAP records by place. It is read in pieces: neither its size nor what it claims decides about memory."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from zlib_ng import zlib_ng

from pipeline.errors import SourceError
from pipeline.recording.chunk import CHUNK_HEAD
from pipeline.recording.layout import MAX_RECORD

__all__ = ["CRC", "RECORD_HEAD", "Damage", "Found", "Records"]

RECORD_HEAD = struct.Struct("<BQ")
"""Opcode and length."""
CRC = struct.Struct("<I")
WINDOW = 1 << 20
OVERLAP = 64
"""No pattern that is searched for is longer."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where a file is not what was written."""

    file: str
    start: int
    end: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}: bytes {self.start} to {self.end - 1}: {self.what}"


@dataclass(frozen=True, slots=True)
class Found:
    """A sound message, and where in the file its data are."""

    channel: int
    sequence: int
    log_ns: int
    publish_ns: int
    offset: int
    length: int
    salvaged: bool = False
    """From a damaged chunk: the data are sound, the numbers and times before them may not be."""


class Records:
    """An open file. Every method may raise OSError, and SourceError where the file is shorter than it was."""

    def __init__(self, path: Path, file: BufferedReader) -> None:
        self.path, self._file = path, file
        self.size = os.fstat(file.fileno()).st_size
        self._window, self._window_at = b"", 0

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, fewer where the file ends."""
        wanted = max(0, min(end, self.size) - start)
        data = os.pread(self._file.fileno(), wanted, start)
        if len(data) != wanted:
            raise SourceError(f"{self.path} became shorter while it was read")
        return data

    def record_at(self, at: int) -> tuple[int, int | None]:
        """The opcode of a record and where it ends; None where it cannot be one."""
        opcode, end = self.claim_at(at)
        return opcode, end if end - at <= MAX_RECORD + RECORD_HEAD.size and end <= self.size else None

    def claim_at(self, at: int) -> tuple[int, int]:
        """The opcode of a record and where it says that it ends; beyond the file where it has no head."""
        head = self.read(at, at + RECORD_HEAD.size)
        if len(head) < RECORD_HEAD.size:
            return 0, self.size + 1
        opcode, length = RECORD_HEAD.unpack(head)
        return opcode, at + RECORD_HEAD.size + length

    def chunk_crc(self, at: int, end: int) -> int | None:
        """The CRC that a chunk claims; None where its head is not that of a chunk."""
        head = self.read(at, min(end, at + CHUNK_HEAD.size))
        if len(head) < CHUNK_HEAD.size:
            return None
        *_, crc, compression, length = CHUNK_HEAD.unpack(head)
        return crc if compression == 0 and length == end - at - CHUNK_HEAD.size else None

    def find(self, pattern: re.Pattern[bytes], at: int, end: int) -> int | None:
        """Where the pattern is next, from `at` on and before `end`."""
        while at < end:
            if not self._window_at <= at < self._window_at + min(WINDOW, len(self._window)):
                self._window, self._window_at = self.read(at, at + WINDOW + OVERLAP), at
            match = pattern.search(self._window, at - self._window_at)
            if match and match.start() < WINDOW:
                start = self._window_at + match.start()
                return start if start < end else None
            at = self._window_at + WINDOW
        return None

    def crc(self, start: int, end: int) -> int:
        """The CRC of everything from `start` to `end`."""
        crc = 0
        for at in range(start, end, WINDOW):
            crc = zlib_ng.crc32(self.read(at, min(at + WINDOW, end)), crc)
        return crc
