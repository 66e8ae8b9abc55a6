"""Every sound message of a recording, and every damaged place of it.

A file is read as strictly as possible and never given up: after damage the next whole chunk is looked for, and what
lies in between is searched for messages that prove themselves (packets and pairing notes have CRCs of their own).
"""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Chunk, Header

from pipeline.errors import SourceError
from pipeline.recording import layout
from pipeline.recording.layout import MAGIC, MAX_RECORD, record_bytes
from pipeline.recording.writer import CHUNK_HEAD, MESSAGE_HEAD, index_bytes

__all__ = ["Damage", "Found", "Scan", "scan"]

_HEAD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<QQQIIQ")
_CRC = struct.Struct("<I")
FOOTER_BYTES = 9 + 20
DATA_END_BYTES = 9 + 4
NEXT = re.compile(rb"\x06.{4}\x00{4}|\x0f\x04\x00{7}.{4}[\x02\x03]", re.DOTALL)
"""What may be the beginning of a chunk, or DataEnd with what follows it."""
MESSAGE = re.compile(rb"\x05.{4}\x00{4}", re.DOTALL)
EFFORT = 8
"""How often, on average, a byte may be looked at in search of what is whole: a forged file must end too."""


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


@dataclass(slots=True)
class Scan:
    """What is in a file."""

    path: Path
    size: int
    messages: list[Found] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    finished: bool = False
    """The file has its end: the recorder was not cut off."""
    chunks: int = 0


def scan(path: Path) -> Scan:
    """Read a whole file. Raises SourceError where it is missing or no recording of sidecast."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size == 0:
                raise SourceError(f"{path} is empty, expected a recording")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Walk(path, data).walk()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error


class _Walk:
    """One pass over a file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._data, self._size = data, len(data)
        self._scan = Scan(path, self._size)
        self._effort = EFFORT * self._size + MAX_RECORD
        self._summary_at = self._summary_start()

    def walk(self) -> Scan:
        at = self._prefix()
        while at < self._size and not self._scan.finished:
            opcode, end = self._record_at(at)
            if opcode == Opcode.CHUNK and end:
                at = self._chunk(at, end)
            elif opcode == Opcode.ATTACHMENT and end:
                at = self._attachment(at, end)
            elif opcode == Opcode.DATA_END and end == at + DATA_END_BYTES:
                self._end(at)
            else:
                at = self._recover(at, self._why_not(at))
        return self._scan

    # The beginning.

    def _prefix(self) -> int:
        """Where the first record after the fixed beginning is. Raises SourceError for a file that is not ours."""
        expected = layout.prefix()
        found = self._data[: len(expected)]
        if found == expected:
            return len(expected)
        self._refuse_foreign(found)
        if self._size < len(expected):
            raise SourceError(f"{self._scan.path} is cut off after {self._size} bytes, before anything was recorded")
        wrong = [i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b]
        self._damaged(wrong[0], wrong[-1] + 1, "the beginning of the file")
        return len(expected)

    def _refuse_foreign(self, found: bytes) -> None:
        path, expected = self._scan.path, layout.prefix()
        if sum(a != b for a, b in zip(found, expected, strict=False)) <= len(found) // 8:
            return
        if not found.startswith(MAGIC):
            raise SourceError(
                f"{path} is no recording: expected an MCAP file, found one that begins with {found[:8]!r}"
            )
        header = self._header()
        if header is None:
            raise SourceError(f"{path} is an MCAP file whose header is cut off or damaged, and nothing of ours follows")
        if header.profile != layout.PROFILE:
            by = f", written by {header.library[:60]!r}" if header.library else ""
            raise SourceError(
                f"{path} is an MCAP file of profile {header.profile[:60]!r}{by}, expected one that sidecast recorded"
            )
        raise SourceError(
            f"{path} is a {header.library[:60]!r}, this version of sidecast reads {layout.LIBRARY!r}: use that version"
        )

    def _header(self) -> Header | None:
        opcode, end = self._record_at(len(MAGIC))
        if opcode != Opcode.HEADER or not end:
            return None
        body = self._data[len(MAGIC) + 9 : end]
        with suppress(McapError, struct.error, UnicodeDecodeError):
            header: Header = Header.read(ReadDataStream(BytesIO(body)))
            return header
        return None

    # Records.

    def _record_at(self, at: int) -> tuple[int, int | None]:
        """The opcode of a record and where it ends; None where it cannot be one."""
        if at + _HEAD.size > self._size:
            return 0, None
        opcode, length = _HEAD.unpack_from(self._data, at)
        end = at + _HEAD.size + length
        return opcode, end if length <= MAX_RECORD and end <= self._size else None

    def _why_not(self, at: int) -> str:
        if at + _HEAD.size > self._size:
            return "the file is cut off"
        opcode, length = _HEAD.unpack_from(self._data, at)
        if length > MAX_RECORD:
            return f"a record that claims {length} bytes, at most {MAX_RECORD} are possible"
        if at + _HEAD.size + length > self._size and opcode in (Opcode.CHUNK, Opcode.ATTACHMENT):
            return "the file is cut off within a record"
        return f"no record of a recording (it begins with {opcode})"

    def _attachment(self, at: int, end: int) -> int:
        body = self._data[at + 9 : end]
        if len(body) < 4 or zlib.crc32(body[:-4]) != _CRC.unpack_from(body, len(body) - 4)[0]:
            self._damaged(at, end, "an attachment")
            return end
        with suppress(McapError, struct.error, UnicodeDecodeError):
            self._scan.attachments.append(Attachment.read(ReadDataStream(BytesIO(body))))
        return end

    def _chunk(self, at: int, end: int) -> int:
        """Take a chunk with its indexes; returns where the next record is."""
        if not self._is_chunk_shaped(at, end):
            return self._recover(at, "a chunk whose header is damaged")
        records = self._data[at + CHUNK_HEAD : end]
        crc = _CRC.unpack_from(self._data, at + 9 + 24)[0]
        if zlib.crc32(records) != crc:
            after = self._skip_indexes(end)
            self._damaged(at, after, f"a chunk does not match its CRC, {self._salvaged(at, end)}")
            return after
        self._scan.chunks += 1
        messages = list(self._messages(at + CHUNK_HEAD, records))
        self._scan.messages += messages
        self._check_chunk_head(at, records, crc, messages)
        return self._check_indexes(end, at + CHUNK_HEAD, messages)

    def _is_chunk_shaped(self, at: int, end: int) -> bool:
        if end - at < CHUNK_HEAD:
            return False
        *_, compression, length = _CHUNK.unpack_from(self._data, at + 9)
        return bool(compression == 0 and length == end - at - CHUNK_HEAD)

    def _messages(self, base: int, records: bytes) -> Iterator[Found]:
        at = 0
        while at + MESSAGE_HEAD.size <= len(records):
            opcode, length, *head = MESSAGE_HEAD.unpack_from(records, at)
            end = at + 9 + length
            if opcode != Opcode.MESSAGE or length < 22 or end > len(records):
                break
            channel, sequence, log_ns, publish_ns = head
            yield Found(channel, sequence, log_ns, publish_ns, base + at + MESSAGE_HEAD.size, length - 22)
            at = end
        if at != len(records):
            self._damaged(base + at, base + len(records), "what is no message in a chunk")

    def _check_chunk_head(self, at: int, records: bytes, crc: int, messages: list[Found]) -> None:
        stamps = [message.log_ns for message in messages] or [0]
        expected = record_bytes(
            Chunk(
                compression="",
                data=b"",
                message_start_time=min(stamps),
                message_end_time=max(stamps),
                uncompressed_crc=crc,
                uncompressed_size=len(records),
            )
        )
        if self._data[at + 9 : at + 9 + 24] != expected[9 : 9 + 24]:
            self._damaged(at, at + CHUNK_HEAD, "the header of a chunk whose messages are sound")

    def _check_indexes(self, at: int, base: int, messages: list[Found]) -> int:
        """Compare what follows a sound chunk with the indexes that it must have."""
        offsets: dict[int, list[tuple[int, int]]] = {}
        for message in messages:
            place = message.offset - MESSAGE_HEAD.size - base
            offsets.setdefault(message.channel, []).append((message.log_ns, place))
        expected = index_bytes(offsets)
        end = at + len(expected)
        if self._data[at:end] == expected:
            return end
        if end > self._size:
            self._damaged(at, self._size, "the file is cut off within the indexes of a chunk")
            return self._size
        self._damaged(at, end, "the indexes of a chunk whose messages are sound")
        return end

    def _skip_indexes(self, at: int) -> int:
        while True:
            opcode, end = self._record_at(at)
            if opcode != Opcode.MESSAGE_INDEX or not end:
                return at
            at = end

    # Damage.

    def _damaged(self, start: int, end: int, what: str) -> None:
        self._scan.damage.append(Damage(str(self._scan.path), start, end, what))

    def _recover(self, at: int, why: str) -> int:
        """Look for the next whole chunk or the end of the data; what lies before it is searched for messages."""
        next_at = self._next_whole(at + 1)
        self._damaged(at, next_at, f"{why}, {self._salvaged(at, next_at)}")
        return next_at

    def _next_whole(self, at: int) -> int:
        for match in NEXT.finditer(self._data, at):
            start = match.start()
            opcode, end = self._record_at(start)
            if opcode == Opcode.DATA_END and self._summary_at in (None, start + DATA_END_BYTES):
                return start
            if opcode != Opcode.CHUNK or not end or not self._is_chunk_shaped(start, end):
                continue
            if not self._spend(end - start):
                break
            crc = _CRC.unpack_from(self._data, start + 9 + 24)[0]
            if zlib.crc32(self._data[start + CHUNK_HEAD : end]) == crc:
                return start
        return self._size

    def _salvaged(self, start: int, end: int) -> str:
        """Take the messages of a damaged place that prove themselves; returns how many, in words."""
        count = 0
        for message in self._loose_messages(start, end):
            self._scan.messages.append(message)
            count += 1
        noun = "message" if count == 1 else "messages"
        return f"{count} {noun} of it saved" if count else "nothing of it saved"

    def _loose_messages(self, at: int, end: int) -> Iterator[Found]:
        while match := MESSAGE.search(self._data, at, end):
            start = match.start()
            at = start + 1
            if start + MESSAGE_HEAD.size > end:
                return
            _, length, channel, sequence, log_ns, publish_ns = MESSAGE_HEAD.unpack_from(self._data, start)
            stop = start + 9 + length
            if length < 22 or stop > end or channel not in layout.CHANNELS:
                continue
            if not self._spend(length):
                return
            offset = start + MESSAGE_HEAD.size
            if layout.is_sound(channel, self._data[offset:stop]):
                yield Found(channel, sequence, log_ns, publish_ns, offset, length - 22, salvaged=True)
                at = stop

    def _spend(self, count: int) -> bool:
        self._effort -= count
        return self._effort >= 0

    # The end.

    def _summary_start(self) -> int | None:
        """Where a sound footer says that the summary begins, which is right after DataEnd."""
        at = self._size - len(MAGIC) - FOOTER_BYTES
        if at < 0 or _HEAD.unpack_from(self._data, at) != (Opcode.FOOTER, 20):
            return None
        start, _, crc = struct.unpack_from("<QQI", self._data, at + 9)
        if not 0 < start <= at or zlib.crc32(self._data[start : at + FOOTER_BYTES - 4]) != crc:
            return None
        return int(start)

    def _end(self, at: int) -> None:
        """DataEnd, summary, footer and magic."""
        self._scan.finished = True
        after = at + DATA_END_BYTES
        if self._summary_at != after:
            self._damaged(after, self._size, "the indexes at the end of the file")
        elif self._data[self._size - len(MAGIC) :] != MAGIC:
            self._damaged(self._size - len(MAGIC), self._size, "the last bytes of the file")
        explained = any(damage.start < at for damage in self._scan.damage)
        if not explained and zlib.crc32(self._data[:at]) != _CRC.unpack_from(self._data, at + 9)[0]:
            self._damaged(at, after, "the CRC of the data")
