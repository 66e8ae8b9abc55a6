"""`sidecast info FILE`: what a recording holds, and whether all of it is there."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.recording.index import Entry, Index, open_index, printable
from pipeline.recording.layout import CHANNELS
from pipeline.wire import HEADER_BYTES

__all__ = ["add_arguments", "described", "main"]

BARS = "▁▂▃▄▅▆▇█"
MAX_BARS = 60
S = 1e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a recording; all of its files, in order")
    parser.add_argument("--json", action="store_true", help="for programs")


def main(args: argparse.Namespace) -> int:
    """Print it; the exit code is 1 where the recording is not complete. Raises SourceError where it is none."""
    index = open_index(args.files)
    data = described(index)
    print(json.dumps(data, indent=2) if args.json else "\n".join(map(printable, _lines(data, index))))
    return 0 if data["complete"] else 1


def described(index: Index) -> dict[str, Any]:
    """A recording in numbers, ready for JSON."""
    primaries = index.primaries
    pairs = [entry.pair for entry in primaries if entry.pair]
    return {
        "files": [str(path) for path in index.paths],
        "bytes": index.size,
        "complete": not index.shortcomings,
        "shortcomings": index.shortcomings,
        "damage": [{"file": d.file, "start": d.start, "end": d.end, "what": d.what} for d in index.damage],
        "recorded": datetime.fromtimestamp(primaries[0].log_ns / S, UTC).isoformat() if primaries else None,
        "stream": index.stream,
        "primary": _stream(primaries),
        "side": {
            "paired": sum(pair.side is not None for pair in pairs),
            "unpaired": sum(pair.side is None for pair in pairs),
            "stored": sum(pair.stored for pair in pairs),
            "lost": sum(entry.side_lost for entry in primaries),
            "packets": sum(entry.packet.role == "side" for entry in index.entries),
        },
        "references": sum(entry.packet.role == "reference" for entry in index.entries),
        "channels": {
            channel.topic: {"messages": index.messages[number], "bytes": index.bytes_by_channel[number]}
            for number, channel in CHANNELS.items()
        },
        "attachments": {attachment.name: len(attachment.data) for attachment in index.attachments},
    }


def _stream(entries: Sequence[Entry]) -> dict[str, Any] | None:
    if not entries:
        return None
    packets = [entry.packet for entry in entries]
    sizes = np.array([HEADER_BYTES + entry.payload_bytes for entry in entries])
    seconds = _duration_s([packet.pts_ns for packet in packets])
    pixels = sum(packet.width * packet.height for packet in packets)
    return {
        "packets": len(packets),
        "frames": [min(p.frame_id for p in packets), max(p.frame_id for p in packets)],
        "views": sorted({p.view for p in packets}),
        "sizes": [list(size) for size in sorted({(p.width, p.height) for p in packets})],
        "qualities": sorted({p.quality for p in packets}),
        "model_ids": [_model(model_id) for model_id in sorted({p.model_id for p in packets})],
        "streams": len({p.stream_id for p in packets}),
        "duration_s": seconds,
        "fps": len(packets) / seconds if seconds else None,
        "bytes": int(sizes.sum()),
        "bpp": 8 * sum(entry.payload_bytes for entry in entries) / pixels,
        "kbps": float(sizes.sum() * 8 / 1000 / seconds) if seconds else None,
        "kbps_by_second": _by_second(packets[0].pts_ns, packets, sizes),
    }


def _by_second(first_ns: int, packets: Sequence[Any], sizes: Any) -> list[float]:
    """Kilobits in each second of capture time; the last second may be a part of one."""
    bits: Counter[int] = Counter()
    for packet, size in zip(packets, sizes, strict=True):
        bits[int((packet.pts_ns - first_ns) // 1_000_000_000)] += int(size) * 8
    first, last = min(bits), min(max(bits), min(bits) + 7 * 24 * 3600)
    return [bits[second] / 1000 for second in range(first, last + 1)]


def _duration_s(stamps: Sequence[int]) -> float | None:
    """From the first stamp to the last, and the last frame's interval, which is the median one."""
    distinct = sorted(set(stamps))
    if len(distinct) < 2:
        return None
    return float(distinct[-1] - distinct[0] + np.median(np.diff(distinct))) / S


def _model(model_id: bytes) -> str:
    name = model_id.rstrip(b"\0")
    return name.decode() if name in (b"JPEG", b"PNG") else model_id.hex()


def _lines(data: dict[str, Any], index: Index) -> Iterator[str]:
    state = "complete" if data["complete"] else f"incomplete: {'; '.join(data['shortcomings'])}"
    yield f"{', '.join(data['files'])}: {_size(data['bytes'])}, {state}"
    stream, primary, side = data["stream"], data["primary"], data["side"]
    if primary is None:
        yield "no packet of a primary view"
    else:
        node, version = stream.get("node", "unknown"), stream.get("sidecast", "unknown")
        yield f"recorded {data['recorded'][:19]} UTC by node {node} of sidecast {version}"
        qualities = ", ".join(f"{quality:g}" for quality in primary["qualities"])
        yield f"model {stream.get('model', 'unknown')} ({', '.join(primary['model_ids'])}), quality {qualities}"
        yield from _primary_lines(primary)
        yield _side_line(side)
    if data["references"]:
        yield f"originals: {data['references']}"
    yield from (
        f"  {topic:18} {counts['messages']:7} messages {_size(counts['bytes']):>10}"
        for topic, counts in data["channels"].items()
        if counts["messages"]
    )
    if data["attachments"]:
        yield "attachments: " + ", ".join(f"{name} ({_size(size)})" for name, size in data["attachments"].items())
    yield from (f"damaged: {damage}" for damage in index.damage)


def _primary_lines(primary: dict[str, Any]) -> Iterator[str]:
    sizes = ", ".join(f"{width}x{height}" for width, height in primary["sizes"])
    views, (first, last) = ", ".join(primary["views"]), primary["frames"]
    yield f"primary view ({views}) {sizes}: {primary['packets']} packets, frames {first} to {last}"
    if primary["duration_s"]:
        yield (
            f"{primary['duration_s']:.2f} s of capture, {primary['fps']:.2f} frames/s, "
            f"{primary['kbps']:.1f} kbit/s, {primary['bpp']:.4f} bpp"
        )
        yield f"kbit in each second: {_bars(primary['kbps_by_second'])}"


def _side_line(side: dict[str, int]) -> str:
    if side["paired"] + side["unpaired"] == 0:
        return f"side view: {side['packets']} packets of its own" if side["packets"] else "side view: not recorded"
    stored = "stored" if side["stored"] else "not stored, only named"
    lost = f", {side['lost']} damaged" if side["lost"] else ""
    return f"side view: {side['paired']} packets paired ({stored}), {side['unpaired']} without{lost}"


def _bars(values: Sequence[float]) -> str:
    """Bars of equal share of the time, each the mean of its seconds, between their least and greatest."""
    shares = [float(np.mean(part)) for part in np.array_split(np.array(values), min(MAX_BARS, len(values)))]
    low, high = min(shares), max(shares)
    steps = len(BARS) - 1
    bars = "".join(BARS[round((share / high) * steps) if high else 0] for share in shares)
    return f"{bars}  {low:.1f} to {high:.1f}"


def _size(count: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
