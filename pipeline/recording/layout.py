"""What a recording is: an MCAP file (https://mcap.dev/spec); what is written here is the specification, version 1.

    magic, Header, 1 Schema, 7 Channels, Attachments, { Chunk, its MessageIndexes }, DataEnd, summary, Footer, magic

The Header has the profile `sidecast` and the library `sidecast recording 1`. Everything before the first Attachment is
the same in all recordings of this version, so damage there is seen. Chunks are not compressed (their content is) and
carry a CRC-32; one is finished at 64 KiB or after a second. DataEnd has the CRC-32 of all before it. Until it is
finished the file's name ends in `.part`; one without DataEnd and Footer was cut off.

    id  topic              encoding       a message is
    1   /sidecast/bits     sidecast-wire  the FRAME message of a packet, byte for byte (attachment wire-format.txt)
    2   /sidecast/side     sidecast-wire  a side frame that a packet was paired with, as FRAME of role side
                                       with model id GUP+ZSTD (see below)
    3   /sidecast/pairs    json           right before the packet: with which side frame it was paired, or null; `Pair`
    4   /sidecast/stream   json           what the node knew of the stream (model, quality, clock, ...); the first one
                                       of a file says which `file` of its recording it is, from 1
    5   /sidecast/metrics  json           every two seconds: all counters and gauges of the node
    6   /sidecast/events   json           `dropped` (with count): a slow disk; `end`: the last message of a whole file
    7   /sidecast/preview  protobuf       foxglove.CompressedImage (JPEG), a few a second

log_time is the recording machine's wall clock, publish_time the capture time (pts); both in ns, 0 where negative.
A payload of model id `GUP+ZSTD` is one Zstandard frame of three planes of bytes, R - G, G and B - G modulo 256, in each
of them every row less the row above it, modulo 256.

`sequence` counts the messages of each channel in a file from 0, so a gap is a loss. Attachments: `config.yaml`,
`wire-format.txt`, `weights.json` (model, model id) and `calibration` where there is one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import google_crc32c
from mcap.data_stream import RecordBuilder
from mcap.records import Channel, Header, McapRecord, Schema

from pipeline.errors import WireError
from pipeline.recording.foxglove import COMPRESSED_IMAGE
from pipeline.types import Frame, Packet, View
from pipeline.wire import HEADER_BYTES, MAX_MESSAGE, parse

__all__ = [
    "BITS",
    "CHANNELS",
    "EVENTS",
    "METRICS",
    "PAIRS",
    "PREVIEW",
    "SIDE",
    "STREAM",
    "Pair",
    "is_sound",
    "packet_in",
    "prefix",
    "record_bytes",
]

MAGIC = b"\x89MCAP0\r\n"
PROFILE = "sidecast"
LIBRARY = "sidecast recording 1"
CHUNK_BYTES = 64 * 1024
CHUNK_AGE_NS = 1_000_000_000
MAX_RECORD = MAX_MESSAGE + 2 * CHUNK_BYTES
"""A longer record is none of ours."""
MAX_JSON = 1 << 20

BITS, SIDE, PAIRS, STREAM, METRICS, EVENTS, PREVIEW = range(1, 8)

_WIRE, _JSON = "sidecast-wire", "json"

SCHEMAS = (Schema(id=1, name="foxglove.CompressedImage", encoding="protobuf", data=COMPRESSED_IMAGE),)
CHANNELS = {
    number: Channel(id=number, topic=f"/sidecast/{name}", message_encoding=encoding, metadata={}, schema_id=schema)
    for number, name, encoding, schema in (
        (BITS, "bits", _WIRE, 0),
        (SIDE, "side", _WIRE, 0),
        (PAIRS, "pairs", _JSON, 0),
        (STREAM, "stream", _JSON, 0),
        (METRICS, "metrics", _JSON, 0),
        (EVENTS, "events", _JSON, 0),
        (PREVIEW, "preview", "protobuf", 1),
    )
}


def record_bytes(*records: McapRecord) -> bytes:
    """MCAP records as they stand in a file."""
    builder: Any = RecordBuilder()
    for record in records:
        record.write(builder)
    data: bytes = builder.end()
    return data


@cache
def prefix() -> bytes:
    """How every recording begins."""
    return MAGIC + record_bytes(Header(PROFILE, LIBRARY), *SCHEMAS, *CHANNELS.values())


@dataclass(frozen=True, slots=True)
class SideKey:
    """Which side frame: what tells one from all others of a recording."""

    view: View
    frame_id: int
    pts_ns: int
    taken_ns: int

    @classmethod
    def of(cls, side: Frame | Packet) -> SideKey:
        """The key of a side frame, coded or not."""
        return cls(side.view, side.frame_id, side.pts_ns, side.taken_ns)


@dataclass(frozen=True, slots=True)
class Pair:
    """With which side frame a packet was paired."""

    frame_id: int
    stream_id: int
    sequence: int
    side: SideKey | None
    offset_ns: int
    stored: bool
    """Whether the recording has that side frame."""

    def to_json(self) -> bytes:
        """The message; `crc32c` is over the rest of it, so that it can be trusted in a damaged chunk too."""
        side = self.side
        fields = {
            "frame_id": self.frame_id,
            "stream_id": self.stream_id,
            "sequence": self.sequence,
            "side": side and {name: getattr(side, name) for name in SideKey.__slots__},
            "offset_ns": self.offset_ns,
            "stored": self.stored,
        }
        rest = _sorted_json(fields)
        return b'%b, "crc32c": %d}' % (rest[:-1], google_crc32c.value(rest))

    @classmethod
    def from_json(cls, data: bytes) -> Pair:
        """The pair of a message. Raises WireError where it is damaged or none."""
        try:
            fields = json.loads(data)
            claimed = fields.pop("crc32c")
            if claimed != google_crc32c.value(_sorted_json(fields)):
                raise WireError("the pairing note does not match its CRC")
            side = fields.pop("side")
            return cls(**fields, side=None if side is None else SideKey(**side))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WireError(f"expected a pairing note, found {data[:40]!r}") from error


def packet_in(data: bytes) -> Packet:
    """The packet of a message of BITS or SIDE. Raises WireError."""
    message = parse(data)
    if not isinstance(message, Packet):
        raise WireError(f"expected a FRAME message, found {type(message.body).__name__}")
    return message


def is_sound(channel: int, data: bytes) -> bool:
    """Whether a message proves itself, without the CRC of its chunk; JSON and previews cannot."""
    try:
        if channel in (BITS, SIDE):
            return len(data) >= HEADER_BYTES and packet_in(data) is not None
        if channel == PAIRS:
            return Pair.from_json(data) is not None
    except WireError:
        return False
    return False


def _sorted_json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True).encode()
