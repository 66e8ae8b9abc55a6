from __future__ import annotations

from collections.abc import Iterator

from pipeline.recording.foxglove import COMPRESSED_IMAGE, compressed_image


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value, at = _varint(data, at)
        if key & 7 == 2:
            yield key >> 3, data[at : at + value]
            at += value
        else:
            yield key >> 3, value


def test_a_preview_has_the_fields_of_the_message():
    jpeg = bytes(range(256)) * 3
    fields = dict(_fields(compressed_image(jpeg, 1_700_000_000_070_000_000, "left")))
    assert (fields[2], fields[3], fields[4]) == (jpeg, b"jpeg", b"left")
    assert dict(_fields(fields[1])) == {1: 1_700_000_000, 2: 70_000_000}


def test_the_schema_describes_the_message_and_what_it_refers_to():
    stamp, image = (value for tag, value in _fields(COMPRESSED_IMAGE) if tag == 1)
    assert dict(_fields(stamp))[1] == b"google/protobuf/timestamp.proto"
    assert dict(_fields(image))[3] == b"google/protobuf/timestamp.proto"
    message = dict(_fields(image))[4]
    fields = [dict(_fields(value)) for tag, value in _fields(message) if tag == 2]
    assert [(f[1], f[3], f[5]) for f in fields] == [
        (b"timestamp", 1, 11),
        (b"data", 2, 12),
        (b"format", 3, 9),
        (b"frame_id", 4, 9),
    ]
