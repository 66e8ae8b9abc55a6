"""Small recordings, made by the stage that makes them in a run."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.recording.index import Entry, Index
from pipeline.stage import Context
from pipeline.types import Frame, Item, Packet, StereoPair
from stages.record import Record

__all__ = ["MODEL_ID", "packet", "pairs", "primaries", "record", "side"]

MODEL_ID = b"\x11\x22\x33\x44\x55\x66\x77\x88"
START_NS = 1_700_000_000_000_000_000


def packet(i: int, size: int = 900, **changes: Any) -> Packet:
    """Packet `i` of a stream of ten frames a second."""
    payload = random.Random(i).randbytes(size)
    values = {
        "frame_id": i,
        "view": "left",
        "role": "primary",
        "pts_ns": START_NS + i * 100_000_000,
        "taken_ns": START_NS + i,
        "model_id": MODEL_ID,
        "width": 32,
        "height": 16,
        "quality": 24.0,
        "payload": payload,
        "stream_id": 77,
        "sequence": i,
        "sent_ns": START_NS + i + 5,
        "clock_offset_ns": -3,
    }
    return Packet(**{**values, **changes})


def side(i: int) -> Frame:
    """The side frame of that moment, a little later."""
    pixels = np.random.default_rng(i).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    return Frame(pixels, "right", i, START_NS + i * 100_000_000 + 7_000_000, START_NS + i + 9, "side")


def pairs(count: int, size: int = 900) -> list[Item]:
    """Packets with the side frames of a slower camera; every fifth has none."""
    found: list[Item] = []
    for i in range(count):
        other = None if i % 5 == 4 else side(i // 2)
        offset_ns = 0 if other is None else other.pts_ns - packet(i).pts_ns
        found.append(StereoPair(packet(i, size), other, offset_ns))
    return found


def record(
    out: Path, items: list[Item], *, facts: dict[str, Any] | None = None, config: str = "", **fields: Any
) -> Record:
    """Let the items pass a `record`; returns it, closed."""
    context = Context("test", out, config=config, facts={"model": "tiny", "model_id": MODEL_ID.hex(), **(facts or {})})
    stage = Record(**fields)
    stage.open(context)
    passed = [passed for item in items for passed in stage.process(item)]
    assert all(a is b for a, b in zip(passed, items, strict=True))
    list(stage.flush())
    stage.close()
    return stage


def primaries(index: Index) -> list[Entry]:
    """The packets of the primary view."""
    return [entry for entry in index.entries() if entry.packet.role == "primary"]
