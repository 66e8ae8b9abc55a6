"""Pictures, frames and packets for the tests of the stages, and a codec that is a few lines long."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from pipeline.types import Decoded, Frame, Packet, Pixels, Role, View
from stages.codec import BitstreamError, CodecError

MODEL_ID = b"\x11\x22\x33\x44\x55\x66\x77\x88"


def picture(width: int = 64, height: int = 48, seed: int = 0) -> Pixels:
    """A smooth coloured texture."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0), None, 0, 255, cv2.NORM_MINMAX)


def frame(
    frame_id: int = 0, pixels: Pixels | None = None, view: View = "left", role: Role = "primary", **size: int
) -> Frame:
    pixels = picture(**size, seed=frame_id) if pixels is None else pixels
    return Frame(pixels, view, frame_id, pts_ns=1_000 + frame_id * 100_000_000, taken_ns=5_000 + frame_id, role=role)


def packet_of(source: Frame, payload: bytes, model_id: bytes = MODEL_ID) -> Packet:
    return Packet(
        frame_id=source.frame_id,
        view=source.view,
        role=source.role,
        pts_ns=source.pts_ns,
        taken_ns=source.taken_ns,
        model_id=model_id,
        width=source.width,
        height=source.height,
        quality=1.0,
        payload=payload,
    )


def decoded(original: Frame, *, side: Frame | None = None, complete: bool = False) -> Decoded:
    """The original, a little blurred; `complete` brings a reference and a decode without side view too."""
    near = frame(original.frame_id, cv2.GaussianBlur(original.pixels, (0, 0), 1.0))
    far = frame(original.frame_id, cv2.GaussianBlur(original.pixels, (0, 0), 3.0)) if complete else None
    return Decoded(near, side, far, original if complete else None, packet_of(original, bytes(120)))


@dataclass
class Header:
    width: int
    height: int
    quality: float


class TinyCodec:
    """Deflated pixels, with a checksum; the side view's mean is the blue that a decode without it lacks."""

    model_id, name, device = MODEL_ID, "tiny", torch.device("cpu")
    quality_range, default_quality = (0.0, 63.0), 24.0

    def __init__(self, *, needs_side: bool = False) -> None:
        self.needs_side = needs_side
        self.description: dict[str, str] = {}

    def encode(self, x: torch.Tensor, quality: float | None = None) -> bytes:
        if not torch.isfinite(x).all():
            raise CodecError("the picture has values that are no numbers")
        body = zlib.compress((x[0] * 255).round().byte().numpy().tobytes())
        return struct.pack("<HHfI", x.shape[3], x.shape[2], quality, zlib.crc32(body)) + body

    def header(self, payload: bytes) -> Header:
        if len(payload) < 12:
            raise BitstreamError(f"the payload is cut off after {len(payload)} bytes")
        return Header(*struct.unpack_from("<HHf", payload))

    def prepare(self, side: torch.Tensor) -> float:
        return float(side.mean())

    def decode(self, payload: bytes, prepared: float | None = None) -> torch.Tensor:
        header = self.header(payload)
        if zlib.crc32(payload[12:]) != struct.unpack_from("<I", payload, 8)[0]:
            raise BitstreamError("the payload is damaged")
        planes = np.frombuffer(zlib.decompress(payload[12:]), np.uint8).reshape(3, header.height, header.width)
        x_hat = torch.from_numpy(planes.copy()).float()[None] / 255
        if prepared is None:
            x_hat[:, 2] = 0.0
        return x_hat
