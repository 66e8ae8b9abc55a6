"""A chunk in the making, and the records that follow from it.

Chunk: head, Message, Message, ...    { MessageIndex }    later, in the summary: ChunkIndex

All of them are packed here, as they are needed for every chunk: the mcap package takes ten times as long.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

from mcap.opcode import Opcode
from zlib_ng import zlib_ng

__all__ = ["CHUNK_HEAD", "MESSAGE_HEAD", "ChunkInMaking", "head_bytes", "index_bytes"]

MESSAGE_HEAD = struct.Struct("<BQHIQQ")
"""Opcode, length, channel, sequence, log time, publish time; the data follow."""
CHUNK_HEAD = struct.Struct("<BQQQQIIQ")
"""Opcode, length, first and last log time, bytes of the records, their CRC, 0 (no compression), their bytes again."""

INDEX_HEAD = struct.Struct("<BQHI")
"""Opcode, length, channel, bytes of the entries; these follow: log time and place of each message."""

COPIED_BELOW = 4096
"""Bytes; what is smaller is put together before it is written."""

CHUNK_INDEX = struct.Struct("<BQQQQQI")
"""Opcode, length, first and last log time, place and bytes of the chunk, bytes of the places of its MessageIndexes."""
PLACE = struct.Struct("<HQ")
"""Channel, and where in the file its MessageIndex is."""
CHUNK_INDEX_END = struct.Struct("<QIQQ")
"""Bytes of the MessageIndexes, 0 (no compression), bytes of the records, and once more."""

Offsets = Mapping[int, list[tuple[int, int]]]
"""By channel: log time and place in the chunk of each message."""


def head_bytes(first_ns: int, last_ns: int, crc: int, length: int) -> bytes:
    """The head of a chunk whose records have `length` bytes and that CRC."""
    return CHUNK_HEAD.pack(Opcode.CHUNK, CHUNK_HEAD.size - 9 + length, first_ns, last_ns, length, crc, 0, length)


def index_bytes(offsets: Offsets) -> bytes:
    """The MessageIndexes that follow a chunk."""
    return b"".join(_message_index(channel, offsets[channel]) for channel in sorted(offsets))


def _message_index(channel: int, entries: list[tuple[int, int]]) -> bytes:
    head = INDEX_HEAD.pack(Opcode.MESSAGE_INDEX, 6 + 16 * len(entries), channel, 16 * len(entries))
    return head + struct.pack(f"<{2 * len(entries)}Q", *chain.from_iterable(entries))


@dataclass(slots=True)
class ChunkInMaking:
    """Messages of a chunk that is not in the file yet; large pieces are kept as they are, not copied."""

    since_ns: int
    """When it was begun, by the monotonic clock."""
    pieces: list[bytes | bytearray] = field(default_factory=lambda: [bytearray(CHUNK_HEAD.size)])
    """The bytes of the file: room for the head, then the messages. Only the last piece grows."""
    size: int = CHUNK_HEAD.size
    """Bytes of all pieces."""
    offsets: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def add(self, channel: int, sequence: int, log_ns: int, publish_ns: int, *data: bytes) -> None:
        """Append a message, whose data may come in parts."""
        self.offsets.setdefault(channel, []).append((log_ns, self.size - CHUNK_HEAD.size))
        length = 22 + sum(map(len, data))
        head = MESSAGE_HEAD.pack(Opcode.MESSAGE, length, channel, sequence, log_ns, publish_ns)
        for part in (head, *data):
            if len(part) >= COPIED_BELOW:
                self.pieces += [part, bytearray()]
            else:
                self.pieces[-1] += part
        self.size += 9 + length

    def times(self) -> tuple[int, int]:
        """The first and the last log time."""
        stamps = [log_ns for entries in self.offsets.values() for log_ns, _ in entries]
        return min(stamps), max(stamps)

    def counts(self) -> Counter[int]:
        """Messages by channel."""
        return Counter({channel: len(entries) for channel, entries in self.offsets.items()})

    def seal(self) -> list[bytes | bytearray]:
        """The pieces of the whole chunk; nothing can be added any more."""
        with memoryview(self.pieces[0]) as first:
            crc = zlib_ng.crc32(first[CHUNK_HEAD.size :])
            for piece in self.pieces[1:]:
                crc = zlib_ng.crc32(piece, crc)
            first[: CHUNK_HEAD.size] = head_bytes(*self.times(), crc, self.size - CHUNK_HEAD.size)
        return self.pieces

    def index(self, start: int, message_indexes: int) -> bytes:
        """The ChunkIndex of this chunk at byte `start`, followed by so many bytes of MessageIndexes."""
        length = self.size - CHUNK_HEAD.size
        places, at = b"", start + self.size
        for channel in sorted(self.offsets):
            places += PLACE.pack(channel, at)
            at += INDEX_HEAD.size + 16 * len(self.offsets[channel])
        rest = CHUNK_INDEX.size - 9 + len(places) + CHUNK_INDEX_END.size
        head = CHUNK_INDEX.pack(Opcode.CHUNK_INDEX, rest, *self.times(), start, self.size, len(places))
        return head + places + CHUNK_INDEX_END.pack(message_indexes, 0, length, length)
