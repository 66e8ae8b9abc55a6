"""`foxglove.CompressedImage` as protobuf, written out by hand: four fields need no library.

message Timestamp       { int64 seconds = 1; int32 nanos = 2; }                    // google.protobuf
message CompressedImage { Timestamp timestamp = 1; bytes data = 2; string format = 3; string frame_id = 4; }
"""

from __future__ import annotations

__all__ = ["COMPRESSED_IMAGE", "compressed_image"]

INT64, INT32, STRING, MESSAGE, BYTES = 3, 5, 9, 11, 12
"""Types of descriptor.proto."""
S = 1_000_000_000


def compressed_image(jpeg: bytes, time_ns: int, camera: str) -> bytes:
    """The message: a JPEG, when it was taken, and which camera it shows."""
    seconds, nanos = divmod(max(0, time_ns), S)
    stamp = _number(1, seconds) + _number(2, nanos)
    return _bytes(1, stamp) + _bytes(2, jpeg) + _text(3, "jpeg") + _text(4, camera)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(tag: int, value: int) -> bytes:
    return _varint(tag << 3) + _varint(value)


def _bytes(tag: int, value: bytes) -> bytes:
    return _varint(tag << 3 | 2) + _varint(len(value)) + value


def _text(tag: int, value: str) -> bytes:
    return _bytes(tag, value.encode())


def _field(name: str, tag: int, kind: int, type_name: str = "") -> bytes:
    """A FieldDescriptorProto, optional."""
    named = _text(6, type_name) if type_name else b""
    return _bytes(2, _text(1, name) + _number(3, tag) + _number(4, 1) + _number(5, kind) + named)


def _file(name: str, package: str, message: bytes, *dependencies: str) -> bytes:
    """A FileDescriptorProto in its FileDescriptorSet."""
    imports = b"".join(_text(3, dependency) for dependency in dependencies)
    return _bytes(1, _text(1, name) + _text(2, package) + imports + _bytes(4, message) + _text(12, "proto3"))


_TIMESTAMP_FILE = "google/protobuf/timestamp.proto"

COMPRESSED_IMAGE = _file(
    _TIMESTAMP_FILE,
    "google.protobuf",
    _text(1, "Timestamp") + _field("seconds", 1, INT64) + _field("nanos", 2, INT32),
) + _file(
    "foxglove/CompressedImage.proto",
    "foxglove",
    _text(1, "CompressedImage")
    + _field("timestamp", 1, MESSAGE, ".google.protobuf.Timestamp")
    + _field("data", 2, BYTES)
    + _field("format", 3, STRING)
    + _field("frame_id", 4, STRING),
    _TIMESTAMP_FILE,
)
"""The FileDescriptorSet that the schema of the preview channel holds."""
