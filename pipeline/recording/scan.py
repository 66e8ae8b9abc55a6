"""Every sound message of a recording, and every damaged place of it.

A file is read as strictly as possible and never given up: after damage the next whole chunk is looked for, and what
lies in between is searched for messages that prove themselves (packets and pairing notes have CRCs of their own).
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment
from zlib_ng import zlib_ng

from pipeline.errors import SourceError
from pipeline.recording import layout
from pipeline.recording.chunk import CHUNK_HEAD, MESSAGE_HEAD, head_bytes, index_bytes
from pipeline.recording.layout import MAGIC, MAX_RECORD
from pipeline.recording.recognise import recognise
from pipeline.recording.records import CRC, RECORD_HEAD, Damage, Found, Records
from pipeline.recording.salvage import DATA_END_BYTES, Salvage

__all__ = ["Scan"]

FOOTER_BYTES = 9 + 20
MAX_DAMAGE = 100_000
"""Places; a file with more is given up there."""
MAX_ATTACHED = 64 << 20
"""Bytes of all attachments together."""
MAX_MESSAGES = 10_000
"""Messages of one chunk: ours have at most a fifth."""


class Scan:
    """One reading of a file: take all `messages`, then everything else is known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.attachments: list[Attachment] = []
        self.damage: list[Damage] = []
        self.finished = False
        """The file has its end: the recorder was not cut off."""
        self._attached = 0

    def messages(self) -> Iterator[Found]:
        """The sound ones, in order. Raises SourceError where the file is missing or no recording of sidecast."""
        try:
            with self.path.open("rb") as file:
                self._records = Records(self.path, file)
                self.size = self._records.size
                yield from self._walk()
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror or error}") from error

    def _walk(self) -> Iterator[Found]:
        if damage := recognise(self._records):
            self.damage.append(damage)
        self._summary_at = self._summary_start()
        self._salvage = Salvage(self._records, self._summary_at)
        at = len(layout.prefix())
        while at < self.size and not self.finished:
            if len(self.damage) >= MAX_DAMAGE:
                self._damaged(at, self.size, f"{MAX_DAMAGE} places before this are damaged, the rest is not read")
                return
            opcode, end = self._records.record_at(at)
            if opcode == Opcode.CHUNK and end:
                at = yield from self._chunk(at, end)
            elif opcode == Opcode.ATTACHMENT and end:
                at = self._attachment(at, end)
            elif opcode == Opcode.DATA_END and end == at + DATA_END_BYTES:
                self._end(at)
            else:
                at = yield from self._recover(at, self._why_not(at))

    def _why_not(self, at: int) -> str:
        opcode, end = self._records.claim_at(at)
        length = end - at - RECORD_HEAD.size
        if at + RECORD_HEAD.size > self.size:
            return "the file is cut off"
        if length > MAX_RECORD:
            return f"a record that claims {length} bytes, at most {MAX_RECORD} are possible"
        if end > self.size and opcode in (Opcode.CHUNK, Opcode.ATTACHMENT):
            return "the file is cut off within a record"
        return f"no record of a recording (it begins with {opcode})"

    def _attachment(self, at: int, end: int) -> int:
        body = self._records.read(at + RECORD_HEAD.size, end)
        self._attached += len(body)
        if len(body) < CRC.size or zlib_ng.crc32(body[: -CRC.size]) != CRC.unpack(body[-CRC.size :])[0]:
            self._damaged(at, end, "an attachment")
        elif self._attached > MAX_ATTACHED:
            self._damaged(at, end, f"an attachment beyond the {MAX_ATTACHED} bytes that are read")
        else:
            with suppress(McapError, struct.error, UnicodeDecodeError):
                self.attachments.append(Attachment.read(ReadDataStream(BytesIO(body))))
        return end

    def _chunk(self, at: int, end: int) -> Generator[Found, None, int]:
        """Yield the messages of a chunk; returns where the next record is, behind its indexes."""
        crc, base = self._records.chunk_crc(at, end), at + CHUNK_HEAD.size
        if crc is None:
            return (yield from self._recover(at, "a chunk whose header is damaged"))
        records = self._records.read(base, end)
        if zlib_ng.crc32(records) != crc:
            after, saved = self._skip_indexes(end), list(self._salvage.loose_messages(at, end))
            self._damaged(at, after, f"a chunk does not match its CRC, {_told(len(saved))}")
            yield from saved
            return after
        messages = list(self._messages(base, records))
        stamps = [message.log_ns for message in messages] or [0]
        if self._records.read(at, base) != head_bytes(min(stamps), max(stamps), crc, len(records)):
            self._damaged(at, base, "the header of a chunk whose messages are sound")
        yield from messages
        return self._check_indexes(end, base, messages)

    def _messages(self, base: int, records: bytes) -> Iterator[Found]:
        at = count = 0
        while at + MESSAGE_HEAD.size <= len(records) and count < MAX_MESSAGES:
            opcode, length, *head = MESSAGE_HEAD.unpack_from(records, at)
            end = at + RECORD_HEAD.size + length
            if opcode != Opcode.MESSAGE or length < 22 or end > len(records):
                break
            channel, sequence, log_ns, publish_ns = head
            yield Found(channel, sequence, log_ns, publish_ns, base + at + MESSAGE_HEAD.size, length - 22)
            at, count = end, count + 1
        if at != len(records):
            self._damaged(base + at, base + len(records), "what is no message in a chunk")

    def _check_indexes(self, at: int, base: int, messages: list[Found]) -> int:
        """Compare what follows a sound chunk with the indexes that it must have."""
        offsets: dict[int, list[tuple[int, int]]] = {}
        for message in messages:
            place = message.offset - MESSAGE_HEAD.size - base
            offsets.setdefault(message.channel, []).append((message.log_ns, place))
        expected = index_bytes(offsets)
        end = at + len(expected)
        if self._records.read(at, end) == expected:
            return end
        if end > self.size:
            self._damaged(at, self.size, "the file is cut off within the indexes of a chunk")
            return self.size
        self._damaged(at, end, "the indexes of a chunk whose messages are sound")
        return end

    def _skip_indexes(self, at: int) -> int:
        while True:
            opcode, end = self._records.record_at(at)
            if opcode != Opcode.MESSAGE_INDEX or not end:
                return at
            at = end

    def _recover(self, at: int, why: str) -> Generator[Found, None, int]:
        """Look for the next whole chunk or the end of the data; what lies before it is searched for messages."""
        next_at, count = self._salvage.next_whole(at + 1), 0
        for message in self._salvage.loose_messages(at, next_at):
            yield message
            count += 1
        self._damaged(at, next_at, f"{why}, {_told(count)}")
        return next_at

    def _damaged(self, start: int, end: int, what: str) -> None:
        self.damage.append(Damage(str(self.path), start, end, what))

    def _summary_start(self) -> int | None:
        """Where a sound footer says that the summary begins, which is right after DataEnd."""
        at = self.size - len(MAGIC) - FOOTER_BYTES
        if at < 0 or self._records.read(at, at + RECORD_HEAD.size) != RECORD_HEAD.pack(Opcode.FOOTER, 20):
            return None
        start, _, crc = struct.unpack("<QQI", self._records.read(at + RECORD_HEAD.size, at + FOOTER_BYTES))
        if not 0 < start <= at or self._records.crc(start, at + FOOTER_BYTES - CRC.size) != crc:
            return None
        return int(start)

    def _end(self, at: int) -> None:
        """DataEnd, summary, footer and magic."""
        self.finished = True
        after = at + DATA_END_BYTES
        if self._summary_at != after:
            self._damaged(after, self.size, "the indexes at the end of the file")
        elif self._records.read(self.size - len(MAGIC), self.size) != MAGIC:
            self._damaged(self.size - len(MAGIC), self.size, "the last bytes of the file")
        explained = any(damage.start < at for damage in self.damage)
        if not explained and CRC.pack(self._records.crc(0, at)) != self._records.read(at + RECORD_HEAD.size, after):
            self._damaged(at, after, "the CRC of the data")


def _told(count: int) -> str:
    if count == 0:
        return "nothing of it saved"
    return f"{count} {'message' if count == 1 else 'messages'} of it saved"
