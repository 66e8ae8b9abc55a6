"""The wire format: round trips, golden bytes, and hostile bytes."""

from __future__ import annotations

import contextlib
import random
import struct
from dataclasses import replace

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import wire
from pipeline.errors import WireError
from pipeline.types import Packet

PACKET = Packet(
    frame_id=41,
    view="right",
    role="reference",
    pts_ns=1_317_376_100_000_000_000,
    taken_ns=1_700_000_000_000_000_000,
    model_id=bytes.fromhex("0123456789abcdef"),
    width=1242,
    height=375,
    quality=24.5,
    payload=b"opaque",
    stream_id=2**64 - 2,
    sequence=7,
    sent_ns=1_700_000_000_000_000_500,
    clock_offset_ns=-12,
)
CHANGE: wire.Change = {"frame_id": 3, "pts_ns": 5, "status": "latest", "values": {"bpp": 0.25}}
CONTROLS: list[wire.Control] = [
    wire.Hello(wire.FORMAT, "0123456789abcdef", "cross", 8),
    wire.StreamInfo({"model": "cross", "expected_frames": None, "size": [1, 2.5, "x"]}),
    wire.Ack(5, [(4, "out"), (5, "corrupt")], 2, 10, 11, -1, [5]),
    wire.Ack(-1),
    wire.Stats(3, [CHANGE], {"quality": 3.5}, True),
    wire.Eos(4, [CHANGE], {}, confirmed=True),
    wire.Error("the disk is full"),
]


def sealed(data: bytes, offset: int, value: bytes) -> bytes:
    """The message with some header bytes replaced and a valid header CRC."""
    head = data[:offset] + value + data[offset + len(value) : 92]
    return head + struct.pack("<I", google_crc32c.value(head)) + data[96:]


def control(code: int, payload: bytes) -> bytes:
    """A control message with any payload and valid CRCs."""
    data = wire.serialize(wire.Envelope(wire.Error("x")))
    data = sealed(data, 4, bytes([code]))[:96] + payload
    return sealed(data, 84, struct.pack("<II", len(payload), google_crc32c.value(payload)))


def test_packet_comes_back_as_it_was():
    assert wire.parse(wire.serialize(PACKET)) == PACKET


@pytest.mark.parametrize("body", CONTROLS, ids=lambda body: type(body).__name__)
def test_control_message_comes_back_as_it_was(body):
    envelope = wire.Envelope(body, stream_id=99, sent_ns=-5)
    assert wire.parse(wire.serialize(envelope)) == envelope


def test_bytes_of_a_packet_stay_what_the_specification_says():
    data = wire.serialize(PACKET)
    assert len(data) == wire.HEADER_BYTES + 6
    assert data[:8] == b"SDC1\x03\x00\x60\x00"
    assert struct.unpack_from("<QQqBBHII", data, 8) == (2**64 - 2, 7, 41, 1, 2, 6272, 1242, 375)
    assert struct.unpack_from("<4q8s3I", data, 44)[4:] == (
        PACKET.model_id,
        6,
        google_crc32c.value(b"opaque"),
        google_crc32c.value(data[:92]),
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "at least 96 bytes"),
        (b"SDC2" + bytes(92), "starts with SDC1"),
        (b"SDC1" + bytes(92), "header does not match"),
        (wire.serialize(PACKET) + b"more", "payload of 6 bytes, found 10"),
        (wire.serialize(PACKET)[:-1], "payload of 6 bytes, found 5"),
        (sealed(wire.serialize(PACKET), 4, b"\x09"), "unknown message type 9"),
        (sealed(wire.serialize(PACKET), 5, b"\x01"), "without flags"),
        (sealed(wire.serialize(PACKET), 6, b"\x61\x00"), "header of 96 bytes"),
        (sealed(wire.serialize(PACKET), 32, b"\x02"), "unknown view 2"),
        (sealed(wire.serialize(PACKET), 33, b"\x03"), "role 3"),
        (sealed(wire.serialize(PACKET), 36, bytes(4)), "0x375"),
        (sealed(wire.serialize(PACKET), 84, b"\xff\xff\xff\xff"), "at most 67108864"),
        (control(1, b"{}"), "format is wrong"),
        (control(4, b'{"received": "5"}'), "received is wrong"),
        (control(4, b'{"received": 5, "done": [[1, "eaten"]]}'), "unknown status"),
        (control(4, b'{"received": 9999999999999999999999}'), "received is wrong"),
        (control(5, b'{"number": 1, "more": 2}'), "more is wrong"),
        (control(5, b"[" * 100_000), "payload is wrong"),
        (control(7, b"\xff\xfe"), "payload is wrong"),
    ],
)
def test_anything_unexpected_is_refused_with_a_sentence(data, sentence):
    with pytest.raises(WireError, match=sentence):
        wire.parse(data)


def test_hello_of_a_later_version_still_says_its_format():
    message = wire.parse(control(1, b'{"format": 2, "colour": "blue"}'))
    assert message == wire.Envelope(wire.Hello(2))


def test_damaged_payload_still_names_its_frame():
    with pytest.raises(wire.DamagedPayloadError, match="frame 41") as caught:
        wire.parse(wire.serialize(PACKET)[:-1] + b"X")
    assert caught.value.packet == replace(PACKET, payload=b"")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"quality": 256.0}, "quality 256.0"),
        ({"model_id": b"JPEG"}, "4 bytes, expected 8"),
        ({"width": 0}, "0x375"),
        ({"pts_ns": 2**63}, "does not fit"),
    ],
)
def test_packet_that_the_format_cannot_carry_is_refused(change, sentence):
    with pytest.raises(WireError, match=sentence):
        wire.serialize(replace(PACKET, **change))


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused(data):
    with pytest.raises(WireError):
        wire.parse(data)


@given(
    st.sampled_from([1, 2, 4, 5, 6, 7]),
    st.binary(max_size=200) | st.text('{}[]":,0e-truefalsn', max_size=100).map(str.encode),
)
@settings(max_examples=500, deadline=None)
def test_random_payloads_with_valid_checksums_parse_or_are_refused(code, payload):
    with contextlib.suppress(WireError):
        assert isinstance(wire.parse(control(code, payload)), wire.Envelope)


def test_twenty_thousand_mutations_parse_or_are_refused():
    rng = random.Random(1)
    seeds = [wire.serialize(PACKET), *(wire.serialize(wire.Envelope(body, 1)) for body in CONTROLS)]
    parsed = 0
    for _ in range(20_000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        if rng.random() < 0.7 and len(data) >= 96:
            payload = bytes(data[96:])
            data[84:92] = struct.pack("<II", len(payload), google_crc32c.value(payload))
            data[92:96] = struct.pack("<I", google_crc32c.value(bytes(data[:92])))
        try:
            wire.parse(bytes(data))
            parsed += 1
        except WireError:
            pass
    assert parsed > 1000
