"""The bytes on the wire and in recordings, version 1: what is written here is the specification.

Every message is one part: a header of 96 bytes, then the payload. All numbers are little-endian.

    offset  type  field             meaning
    0       4s    magic             "SDC1"
    4       u8    type              1 HELLO, 2 STREAM_INFO, 3 FRAME, 4 ACK, 5 STATS, 6 EOS, 7 ERROR
    5       u8    flags             0
    6       u16   header length     96
    8       u64   stream id         random at each start of an encoder; in every message, of both sides
    16      u64   sequence          of the packet in its stream, from 0; a packet that is sent again keeps it
    24      i64   frame_id          the recording's own index
    32      u8    view              0 left, 1 right
    33      u8    role              0 primary, 1 side, 2 reference
    34      u16   quality           in steps of 1/256
    36      u32   width             px, at least 1
    40      u32   height            px, at least 1
    44      i64   pts_ns            capture time by the source's clock
    52      i64   taken_ns          when the source handed the frame over, wall clock of the sending machine
    60      i64   sent_ns           when this message was made, wall clock of the sending machine
    68      i64   clock_offset_ns   the decoder's wall clock minus the encoder's, as the encoder knows it
    76      8s    model id          start of SHA-256 over weights and coding tables; "JPEG", "PNG" padded with zeros
    84      u32   payload length    exactly what follows the header
    88      u32   payload CRC32C
    92      u32   header CRC32C     over bytes 0 to 91

A FRAME carries one coded picture (at most MAX_PAYLOAD bytes, opaque here); the same bytes are what a recording stores,
and a `.sdc` file is one such message. In all other messages the fields from `sequence` to `model id`, but for
`sent_ns`, are 0 and not looked at, and the payload is a JSON object of at most MAX_CONTROL bytes: the dataclass of that
name below, with exactly its keys. Only HELLO may have more keys, so that another version can be told what is wrong:
every version's HELLO has this header and the key `format`.

    encoder (DEALER, connects)                              decoder (ROUTER, binds)
    HELLO        format, weights, window            ->
                                                    <-      ACK with `undone`: welcome, this is what I have
    STREAM_INFO  facts for the report               ->
    FRAME        at most `window` without `received` ->
                                                    <-      ACK received: credit is back; done: settled for good
    STATS        each second, heartbeat, changes    ->
                                                    <-      ACK at once: heartbeat, the stamps for the clock offset
    EOS          after the last frame               ->
                                                    <-      EOS confirmed, once the decoder's files are closed
    EOS confirmed: good-bye                         ->

Either side sends ERROR with a sentence when it fails, and HELLO refused is an ERROR. A HELLO from the decoder means "I
do not know you (any more): connect and introduce yourself again". Whatever else does not parse, or comes from a peer
that was not welcomed, is counted and dropped.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, get_args

import google_crc32c
from pydantic import AfterValidator, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from pipeline.errors import WireError
from pipeline.ledger import DROP_REASONS, OUT, PENDING
from pipeline.types import Packet, Role, View

__all__ = [
    "FORMAT",
    "HEADER_BYTES",
    "MAX_CONTROL",
    "MAX_MESSAGE",
    "MAX_PAYLOAD",
    "Ack",
    "Change",
    "Control",
    "DamagedPayloadError",
    "Envelope",
    "Eos",
    "Error",
    "Hello",
    "Message",
    "Stats",
    "StreamInfo",
    "check",
    "parse",
    "serialize",
    "serialize_parts",
]

FORMAT = 1
MAGIC = b"SDC1"
MAX_PAYLOAD = 64 << 20
"""Bytes of one coded picture."""
MAX_CONTROL = 1 << 20
"""Bytes of JSON in any other message."""

_FIELDS = struct.Struct("<4sBBHQQqBBHIIqqqq8sII")
_CRC = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _CRC.size
MAX_MESSAGE = HEADER_BYTES + MAX_PAYLOAD

_FRAME = 3
_VIEWS: tuple[View, ...] = get_args(View)
_ROLES: tuple[Role, ...] = get_args(Role)
_MAX_I64 = 2**63 - 1
_QUALITY_STEPS = 256


def _known_status(status: str) -> str:
    if status not in (PENDING, OUT, *DROP_REASONS):
        raise ValueError(f"unknown status {status!r}")
    return status


_Number = Annotated[int, Field(ge=-_MAX_I64 - 1, le=_MAX_I64)]
_Sequence = Annotated[int, Field(ge=-1, le=_MAX_I64)]
_Status = Annotated[str, AfterValidator(_known_status)]
_STRICT = ConfigDict(extra="forbid", strict=True, ser_json_inf_nan="constants")


class Change(TypedDict):
    """One row of the encoder's ledger, as `Ledger.merge` takes it."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]

    frame_id: _Number
    pts_ns: _Number
    status: _Status
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Hello:
    """Who wants to send; from the decoder: introduce yourself again."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    format: int
    model_id: str = ""
    """Hex; empty where no weights are involved."""
    model: str = ""
    window: Annotated[int, Field(ge=1, le=64)] = 8
    """Packets under way that the sender wants to be allowed."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What the encoder's node knows for the report."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    facts: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Ack:
    """What the decoder has got, what has settled there, and the stamps for the clock offset."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    received: _Sequence
    """Every packet up to this sequence was taken by the decoder's chain; -1: none."""
    done: list[tuple[_Sequence, _Status]] = field(default_factory=list)
    """Sequences that settled in the decoder's ledger since the last ACK, and how."""
    stats: _Sequence = 0
    """The last numbered batch of changes that was merged."""
    echo_ns: _Number | None = None
    """`sent_ns` of the STATS that this answers."""
    echo_received_ns: _Number | None = None
    """When it came, by the decoder's wall clock."""
    taken: _Sequence | None = None
    """Only in the answer to HELLO: the highest sequence of this stream that the decoder has, -1: none."""
    undone: list[_Sequence] | None = None
    """Only in the answer to HELLO: those up to `taken` that have not settled yet."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Heartbeat of the encoder, each second."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    number: _Sequence
    """Of this batch of changes; the same again when it is repeated."""
    changes: list[Change] = field(default_factory=list)
    facts: dict[str, JsonValue] = field(default_factory=dict)
    stopping: bool = False
    """The encoder's node was told to stop: EOS will follow."""


@dataclass(frozen=True, slots=True)
class Eos:
    """The end of the stream; `confirmed` by the decoder when its files are closed, and once more as good-bye."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    number: _Sequence = 0
    changes: list[Change] = field(default_factory=list)
    facts: dict[str, JsonValue] = field(default_factory=dict)
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class Error:
    """The sender of this message has failed, and why."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    sentence: Annotated[str, Field(max_length=2000)]


Control = Hello | StreamInfo | Ack | Stats | Eos | Error

_TYPES: dict[int, type[Control]] = {1: Hello, 2: StreamInfo, 4: Ack, 5: Stats, 6: Eos, 7: Error}
_CODES = {kind: code for code, kind in _TYPES.items()}
_ADAPTERS: dict[type[Control], TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in _TYPES.values()}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A control message with what its header says."""

    body: Control
    stream_id: int = 0
    sent_ns: int = 0


Message = Packet | Envelope


class DamagedPayloadError(WireError):
    """A FRAME whose header is sound and whose payload is not; `packet` is it, without payload."""

    def __init__(self, sentence: str, packet: Packet) -> None:
        self.packet = packet
        super().__init__(sentence)


def check(packet: Packet) -> None:
    """Raise WireError if the format cannot carry `packet`."""
    if len(packet.payload) > MAX_PAYLOAD:
        raise WireError(
            f"the payload of frame {packet.frame_id} has {len(packet.payload)} bytes, at most {MAX_PAYLOAD} go"
        )
    if not 0 <= packet.quality <= 65535 / _QUALITY_STEPS:
        raise WireError(f"quality {packet.quality} of frame {packet.frame_id} is not between 0 and 255.99")
    if len(packet.model_id) != 8:
        raise WireError(f"the model id of frame {packet.frame_id} has {len(packet.model_id)} bytes, expected 8")
    if not (1 <= packet.width < 2**32 and 1 <= packet.height < 2**32):
        raise WireError(f"frame {packet.frame_id} is {packet.width}x{packet.height}, which no picture is")


def serialize(message: Message) -> bytes:
    """The bytes of one message; WireError where the format cannot carry it."""
    return b"".join(serialize_parts(message))


def serialize_parts(message: Message) -> tuple[bytes, bytes]:
    """Header and payload of one message; a packet's payload is not copied. WireError as from `serialize`."""
    if isinstance(message, Packet):
        return _serialize_packet(message)
    payload = _ADAPTERS[type(message.body)].dump_json(message.body)
    if len(payload) > MAX_CONTROL:
        raise WireError(f"a {_name(message.body)} message of {len(payload)} bytes, at most {MAX_CONTROL} go")
    code = _CODES[type(message.body)]
    return _assemble(code, message.stream_id, (0, 0, 0, 0, 0, 0, 0, 0, 0, message.sent_ns, 0, bytes(8)), payload)


def parse(data: bytes) -> Message:
    """The message that these bytes are; WireError if they are none (DamagedPayloadError: only the payload)."""
    fields = _header(data)
    code, stream_id, sequence, payload_length, payload_crc = fields[1], fields[4], fields[5], fields[17], fields[18]
    payload = data[HEADER_BYTES:]
    if len(payload) != payload_length:
        raise WireError(f"expected a payload of {payload_length} bytes, found {len(payload)}")
    sound = google_crc32c.value(payload) == payload_crc
    if code == _FRAME:
        packet = _packet(stream_id, sequence, fields)
        if not sound:
            raise DamagedPayloadError(f"the payload of frame {packet.frame_id} does not match its CRC", packet)
        return replace(packet, payload=payload)
    if not sound:
        raise WireError(f"the payload of a {_TYPES[code].__name__} message does not match its CRC")
    return Envelope(_body(_TYPES[code], payload), stream_id, sent_ns=fields[14])


def _header(data: bytes) -> tuple[Any, ...]:
    if len(data) < HEADER_BYTES:
        raise WireError(f"expected at least {HEADER_BYTES} bytes, found {len(data)}")
    if data[:4] != MAGIC:
        raise WireError(f"expected a message that starts with {MAGIC.decode()}, found {data[:4]!r}")
    (header_crc,) = _CRC.unpack_from(data, _FIELDS.size)
    if google_crc32c.value(data[: _FIELDS.size]) != header_crc:
        raise WireError("the header does not match its CRC")
    fields = _FIELDS.unpack_from(data)
    code, flags, header_length, payload_length = fields[1], fields[2], fields[3], fields[17]
    if header_length != HEADER_BYTES or flags != 0:
        raise WireError(f"expected a header of {HEADER_BYTES} bytes without flags, found {header_length}, {flags}")
    if code != _FRAME and code not in _TYPES:
        raise WireError(f"unknown message type {code}")
    if payload_length > (limit := MAX_PAYLOAD if code == _FRAME else MAX_CONTROL):
        raise WireError(f"a payload of {payload_length} bytes, at most {limit} are allowed")
    return fields


def _packet(stream_id: int, sequence: int, fields: tuple[Any, ...]) -> Packet:
    """The packet without its payload."""
    frame_id, view, role, quality, width, height, pts_ns, taken_ns, sent_ns, clock_offset_ns, model_id = fields[6:17]
    if view >= len(_VIEWS) or role >= len(_ROLES):
        raise WireError(f"unknown view {view} or role {role} of frame {frame_id}")
    if width == 0 or height == 0 or sequence > _MAX_I64:
        raise WireError(f"frame {frame_id} says that it is {width}x{height} and has sequence {sequence}")
    return Packet(
        frame_id=frame_id,
        view=_VIEWS[view],
        role=_ROLES[role],
        pts_ns=pts_ns,
        taken_ns=taken_ns,
        model_id=model_id,
        width=width,
        height=height,
        quality=quality / _QUALITY_STEPS,
        payload=b"",
        stream_id=stream_id,
        sequence=sequence,
        sent_ns=sent_ns,
        clock_offset_ns=clock_offset_ns,
    )


def _body(kind: type[Control], payload: bytes) -> Control:
    try:
        body: Control = _ADAPTERS[kind].validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "payload"
        raise WireError(f"a {kind.__name__} message whose {where} is wrong: {first['msg']}") from None
    return body


def _serialize_packet(packet: Packet) -> tuple[bytes, bytes]:
    check(packet)
    middle = (
        packet.sequence,
        packet.frame_id,
        _VIEWS.index(packet.view),
        _ROLES.index(packet.role),
        min(round(packet.quality * _QUALITY_STEPS), 65535),
        packet.width,
        packet.height,
        packet.pts_ns,
        packet.taken_ns,
        packet.sent_ns,
        packet.clock_offset_ns,
        packet.model_id,
    )
    return _assemble(_FRAME, packet.stream_id, middle, packet.payload)


def _assemble(code: int, stream_id: int, middle: tuple[Any, ...], payload: bytes) -> tuple[bytes, bytes]:
    """`middle`: the fields from sequence to model id."""
    crc = google_crc32c.value(payload)
    try:
        head = _FIELDS.pack(MAGIC, code, 0, HEADER_BYTES, stream_id, *middle, len(payload), crc)
    except struct.error as error:
        raise WireError(f"a number does not fit into the header: {error}") from None
    return head + _CRC.pack(google_crc32c.value(head)), payload


def _name(body: Control) -> str:
    return type(body).__name__
