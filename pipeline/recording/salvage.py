"""What can be saved from a damaged place: the way to the next whole chunk, and messages that prove themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mcap.opcode import Opcode
from zlib_ng import zlib_ng

from pipeline.recording import layout
from pipeline.recording.chunk import CHUNK_HEAD, MESSAGE_HEAD
from pipeline.recording.layout import MAX_RECORD
from pipeline.recording.records import Found, Records

__all__ = ["DATA_END_BYTES", "Salvage"]

DATA_END_BYTES = 9 + 4
NEXT = re.compile(rb"\x06.{4}\x00{4}|\x0f\x04\x00{7}.{4}[\x02\x03]", re.DOTALL)
"""What may be the beginning of a chunk, or DataEnd with what follows it."""
MESSAGE = re.compile(rb"\x05.{4}\x00{4}", re.DOTALL)
EFFORT = 8
"""How often, on average, a byte may be looked at in search of what is whole: a forged file must end too."""


class Salvage:
    """Searches one file, with an effort that its size limits."""

    def __init__(self, records: Records, summary_at: int | None) -> None:
        """`summary_at`: where the summary begins, if that is known."""
        self._records, self._summary_at = records, summary_at
        self._effort = EFFORT * records.size + MAX_RECORD

    def next_whole(self, at: int) -> int:
        """Where the next whole chunk or the end of the data is, from `at` on; the end of the file if there is none."""
        records = self._records
        while (start := records.find(NEXT, at, records.size)) is not None:
            at = start + 1
            opcode, end = records.record_at(start)
            if opcode == Opcode.DATA_END and self._summary_at in (None, start + DATA_END_BYTES):
                return start
            crc = records.chunk_crc(start, end) if opcode == Opcode.CHUNK and end else None
            if crc is None or end is None:
                continue
            if not self._spend(end - start):
                break
            if zlib_ng.crc32(records.read(start + CHUNK_HEAD.size, end)) == crc:
                return start
        return records.size

    def loose_messages(self, at: int, end: int) -> Iterator[Found]:
        """The messages between two places that are sound whatever is around them."""
        records = self._records
        while (start := records.find(MESSAGE, at, end)) is not None:
            at = start + 1
            head = records.read(start, start + MESSAGE_HEAD.size)
            if len(head) < MESSAGE_HEAD.size:
                return
            _, length, channel, sequence, log_ns, publish_ns = MESSAGE_HEAD.unpack(head)
            stop = start + 9 + length
            if length < 22 or stop > end or channel not in layout.CHANNELS:
                continue
            if not self._spend(length):
                return
            offset = start + MESSAGE_HEAD.size
            if layout.is_sound(channel, records.read(offset, stop)):
                yield Found(channel, sequence, log_ns, publish_ns, offset, length - 22, salvaged=True)
                at = stop

    def _spend(self, count: int) -> bool:
        self._effort -= count
        return self._effort >= 0
