"""A recording as it is written: whole chunks only, so that a crash costs what has not been written, and nothing else.

A chunk goes to the file in one piece with its indexes. Where that fails, the file is cut back to the last whole one;
the end (indexes, footer) then takes the place of the last chunks if the disk has no room left for it.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import RawIOBase

from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    DataEnd,
    Footer,
    McapRecord,
    Statistics,
    SummaryOffset,
)
from zlib_ng import zlib_ng

from pipeline.recording import layout
from pipeline.recording.chunk import ChunkInMaking, index_bytes
from pipeline.recording.layout import CHUNK_AGE_NS, CHUNK_BYTES, EVENTS, MAGIC, record_bytes

__all__ = ["Writer"]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class _Written:
    """A chunk that is in the file."""

    start: int
    index: bytes
    """Its ChunkIndex."""
    crc_before: int
    """CRC of the file up to it."""
    counts: Counter[int]
    times: tuple[int, int]


class Writer:
    """Writes one file. Every method may raise OSError; what is in the file then is whole."""

    def __init__(
        self,
        file: RawIOBase,
        attachments: Iterable[tuple[str, str, bytes]] = (),
        *,
        now_ns: int = 0,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`file`: unbuffered, empty. `attachments`: (name, media type, data), made at `now_ns`."""
        self._file, self._monotonic_ns = file, monotonic_ns
        self._good = self._crc = 0
        self._chunks: list[_Written] = []
        self._attachments: list[bytes] = []
        self._sequences: Counter[int] = Counter()
        self._pending: ChunkInMaking | None = None
        self._put(layout.prefix())
        for name, media_type, data in attachments:
            self._attach(Attachment(now_ns, now_ns, name, media_type, data))

    @property
    def size(self) -> int:
        """Bytes in the file and in the chunk that is being made."""
        return self._good + (self._pending.size if self._pending else 0)

    @property
    def counts(self) -> Counter[int]:
        """Messages by channel that are in the file."""
        return sum((chunk.counts for chunk in self._chunks), Counter())

    def add(self, channel: int, data: bytes, log_ns: int, publish_ns: int = 0, *, head: bytes = b"") -> None:
        """Take a message, `head` and `data`; the chunk is written when it is full."""
        if self._pending is None:
            self._pending = ChunkInMaking(self._monotonic_ns())
        sequence = self._sequences[channel]
        self._sequences[channel] += 1
        self._pending.add(channel, sequence, max(0, log_ns), max(0, publish_ns), head, data)
        if self._pending.size >= CHUNK_BYTES:
            self.flush()

    def age_ns(self) -> int:
        """For how long the oldest message has waited for its chunk to be written."""
        return self._monotonic_ns() - self._pending.since_ns if self._pending else 0

    def flush_if_old(self) -> None:
        """Write a chunk that has waited for a second, full or not."""
        if self.age_ns() >= CHUNK_AGE_NS:
            self.flush()

    def flush(self) -> None:
        """Write what has been taken; it is lost if that fails."""
        pending, self._pending = self._pending, None
        if pending:
            self._put_chunk(pending)

    def finish(self, end: Callable[[], bytes]) -> None:
        """Write the `end` event and all indexes; where there is no room, in the place of the last chunks.

        `end` is asked again after each chunk that had to go. The file stays open.
        """
        try:
            self.flush()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
        while True:
            try:
                self._put_end(end())
                return
            except OSError as error:
                self._cut()
                if error.errno not in NO_ROOM or not self._chunks:
                    raise
                self._give_up_chunk()

    def _put_end(self, event: bytes) -> None:
        kept, sequence = len(self._chunks), self._sequences[EVENTS]
        last = ChunkInMaking(0)
        last.add(EVENTS, sequence, time.time_ns(), 0, event)
        start, crc = self._good, self._crc
        try:
            self._put_chunk(last)
            self._put(self._tail())
        except OSError:
            del self._chunks[kept:]
            self._good, self._crc = start, crc
            raise
        os.fsync(self._file.fileno())

    def _give_up_chunk(self) -> None:
        chunk = self._chunks.pop()
        self._good, self._crc = chunk.start, chunk.crc_before
        self._cut()

    def _put_chunk(self, chunk: ChunkInMaking) -> None:
        indexes = index_bytes(chunk.offsets)
        index = chunk.index(self._good, len(indexes))
        written = _Written(self._good, index, self._crc, chunk.counts(), chunk.times())
        self._put(*chunk.seal(), indexes)
        self._chunks.append(written)

    def _attach(self, attachment: Attachment) -> None:
        data, start = record_bytes(attachment), self._good
        self._put(data)
        index = AttachmentIndex(
            offset=start,
            length=len(data),
            log_time=attachment.log_time,
            create_time=attachment.create_time,
            data_size=len(attachment.data),
            name=attachment.name,
            media_type=attachment.media_type,
        )
        self._attachments.append(record_bytes(index))

    def _tail(self) -> bytes:
        """DataEnd, summary, footer, magic."""
        data_end = record_bytes(DataEnd(self._crc))
        start = self._good + len(data_end)
        groups: list[tuple[Opcode, bytes]] = [
            (Opcode.SCHEMA, record_bytes(*layout.SCHEMAS)),
            (Opcode.CHANNEL, record_bytes(*layout.CHANNELS.values())),
            (Opcode.STATISTICS, record_bytes(self._statistics())),
            (Opcode.CHUNK_INDEX, b"".join(chunk.index for chunk in self._chunks)),
            (Opcode.ATTACHMENT_INDEX, b"".join(self._attachments)),
        ]
        summary, offsets = b"", list[McapRecord]()
        for opcode, records in groups:
            if records:
                offsets.append(SummaryOffset(opcode, len(records), start + len(summary)))
                summary += records
        offsets_start = start + len(summary)
        summary += record_bytes(*offsets)
        footer = record_bytes(Footer(start, offsets_start, 0))[:-4]
        crc = zlib_ng.crc32(footer, zlib_ng.crc32(summary))
        return data_end + summary + footer + struct.pack("<I", crc) + MAGIC

    def _statistics(self) -> Statistics:
        counts = self.counts
        times = [chunk.times for chunk in self._chunks]
        return Statistics(
            attachment_count=len(self._attachments),
            channel_count=len(layout.CHANNELS),
            channel_message_counts=dict(counts),
            chunk_count=len(self._chunks),
            message_count=counts.total(),
            message_start_time=min((first for first, _ in times), default=0),
            message_end_time=max((last for _, last in times), default=0),
            metadata_count=0,
            schema_count=len(layout.SCHEMAS),
        )

    def _put(self, *pieces: bytes | bytearray) -> None:
        """Append all of them or, as far as the file allows, nothing."""
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[self._file.write(view) or 0 :]
        except OSError:
            self._cut()
            raise
        for piece in pieces:
            self._good += len(piece)
            self._crc = zlib_ng.crc32(piece, self._crc)

    def _cut(self) -> None:
        self._file.seek(self._good)
        self._file.truncate(self._good)
