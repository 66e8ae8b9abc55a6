"""A node without codec and cameras: its ledger is filled as a decoder's is, as fast as a test wants."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np

from pipeline.dashboard import Composite, Dashboard, LiveStream, Pictures, Tile
from pipeline.http import HttpServer
from pipeline.stage import Context
from pipeline.types import Decoded, Frame, Item, Packet
from pipeline.wire import HEADER_BYTES

__all__ = ["START_NS", "FakeClock", "Node", "decoded", "jpeg"]

START_NS = 1_700_000_000_000_000_000
WIDTH, HEIGHT = 1242, 375


class FakeClock:
    """Time that goes on when a test says so."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return START_NS + self.now_ns

    def sleep(self, seconds: float, until: threading.Event | None = None) -> None:
        self.now_ns += round(seconds * 1e9)


class Node:
    """A decoder's node that frames come to when a test says so."""

    def __init__(self, folder: Path, *, clock=None, name: str = "decoder", streams: int = 1, compose=None) -> None:
        self.contexts = [
            Context(name, folder, facts={"clock": "recorded"}, **({"clock": clock} if clock else {}))
            for _ in range(streams)
        ]
        self.context = self.contexts[0]
        self.pictures = [Pictures(compose or jpeg) for _ in range(streams)]
        self.streams = [
            LiveStream(context, relay=True, sends=False, pictures=pictures)
            for context, pictures in zip(self.contexts, self.pictures, strict=True)
        ]
        self.dashboard = Dashboard(self.context, self.streams)
        self.count = 0

    def __enter__(self) -> Node:
        self.server = HttpServer("127.0.0.1:0", self.context, lambda: True, dashboard=self.dashboard)
        self.server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.__exit__(*error)

    @property
    def url(self) -> str:
        return self.server.url

    def heard(self) -> None:
        """The encoder has said something."""
        for context in self.contexts:
            context.heard_ns = context.clock.monotonic_ns()

    def frames(self, count: int, fps: float = 30.0, **values: float) -> None:
        """So many frames arrive in every stream, all of them through."""
        for _ in range(count):
            for context in self.contexts:
                frame(context, self.count, fps, **values)
            self.count += 1
        self.heard()


def frame(context: Context, i: int, fps: float, **values: float) -> None:
    """Frame `i` of a drive that gets more and less difficult; every tenth is decoded without the side view too."""
    ledger, metrics = context.ledger, context.metrics
    wave = math.sin(i / 40) + 0.3 * math.sin(i / 7)
    size = round(9000 + 1500 * wave + 97 * (i * 7919 % 13))
    measured = {
        "payload_bytes": size,
        "wire_bytes": size + HEADER_BYTES,
        "bpp": 8 * size / (WIDTH * HEIGHT),
        "psnr_db": 31.5 - 0.8 * wave + 0.05 * (i * 104729 % 11),
        "ms_ssim": 0.985 - 0.004 * wave,
        "side_offset_ms": 4.0 * math.sin(i / 17),
        "encode_ms": 26.0,
        "decode_ms": 140.0,
        "latency_ms": 190.0 + 12 * wave + i * 31 % 17,
        "settled_s": i / fps,
    }
    if i % 10 == 0:
        measured["psnr_without_side_db"] = measured["psnr_db"] - 2.9 - 0.3 * wave
    ledger.frame_in(i, START_NS + round(i * 1e9 / fps))
    metrics.frames_in.inc()
    ledger.note(i, **{**measured, **values})
    ledger.frame_out(i)
    metrics.frames_out.inc()


def decoded(i: int = 0, *, sampled: bool = True, width: int = 64, height: int = 24) -> Decoded:
    """A decoded frame with all that it can be compared with."""
    noise = np.random.default_rng(i)
    original = noise.integers(40, 200, (height, width, 3), dtype=np.uint8)
    pictures = [original // 16 * 16, original[:, ::-1].copy(), original // 32 * 32, original]
    frames = [
        Frame(pixels, view, i, i, i) for pixels, view in zip(pictures, ("left", "right", "left", "left"), strict=True)
    ]
    packet = Packet(i, "left", "primary", i, i, b"x" * 8, width, height, 24.0, b"payload")
    return Decoded(frames[0], frames[1], frames[2] if sampled else None, frames[3], packet)


def jpeg(item: Item) -> Composite:
    """A picture of one pixel, without OpenCV."""
    return Composite(b"\xff\xd8\xff\xd9", (Tile("decoded", "Decoded", 0, 0, 1, 1),), 0)
