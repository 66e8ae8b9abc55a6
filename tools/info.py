"""`sidecast info FILE`: what a recording holds, and whether all of it is there."""

from __future__ import annotations

import argparse
import json
from array import array
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.recording.index import Entry, Index, open_index, printable
from pipeline.recording.layout import CHANNELS
from pipeline.wire import HEADER_BYTES

__all__ = ["add_arguments", "main"]

BARS = "▁▂▃▄▅▆▇█"
MAX_BARS = 60
MAX_SECONDS = 7 * 24 * 3600
S = 1e9

Stamps = NDArray[np.int64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a recording; all of its files, in order")
    parser.add_argument("--json", action="store_true", help="for programs")


def main(args: argparse.Namespace) -> int:
    """Print it; the exit code is 1 where the recording is not complete. Raises SourceError where it is none."""
    packets = _Packets()
    index = open_index(args.files, packets.see)
    data = _described(index, packets)
    print(json.dumps(data, indent=2) if args.json else "\n".join(map(printable, _lines(data, index))))
    return 0 if data["complete"] else 1


class _Packets:
    """What is told of the packets of the primary view; a few bytes are kept of each."""

    def __init__(self) -> None:
        self.pts_ns, self.bytes = array("q"), array("q")
        self.recorded_ns: int | None = None
        self.frames: list[int] = []
        """The least and the greatest number."""
        self.sizes: set[tuple[int, int]] = set()
        self.qualities: set[float] = set()
        self.streams: set[int] = set()
        self.pixels = self.paired = self.unpaired = self.unknown = self.side_lost = 0

    def see(self, entry: Entry) -> None:
        """Take what is to be known of a packet."""
        packet = entry.packet
        if packet.role != "primary":
            return
        self.recorded_ns = entry.log_ns if self.recorded_ns is None else self.recorded_ns
        self.pts_ns.append(packet.pts_ns)
        self.bytes.append(HEADER_BYTES + entry.payload_bytes)
        self.frames = [min([packet.frame_id, *self.frames]), max([packet.frame_id, *self.frames])]
        self.sizes.add((packet.width, packet.height))
        self.qualities.add(packet.quality)
        self.streams.add(packet.stream_id)
        self.pixels += packet.width * packet.height
        self.paired += entry.pair is not None and entry.pair.side is not None
        self.unpaired += entry.pair is not None and entry.pair.side is None
        self.unknown += entry.pair is None
        self.side_lost += entry.side_lost


def _described(index: Index, packets: _Packets) -> dict[str, Any]:
    """A recording in numbers, ready for JSON."""
    recorded_ns = packets.recorded_ns
    return {
        "files": [str(path) for path in index.paths],
        "bytes": index.size,
        "complete": not index.shortcomings,
        "shortcomings": index.shortcomings,
        "damage": [{"file": d.file, "start": d.start, "end": d.end, "what": d.what} for d in index.damage],
        "recorded": None if recorded_ns is None else datetime.fromtimestamp(recorded_ns / S, UTC).isoformat(),
        "stream": index.stream,
        "primary": _primary(index, packets) if packets.pts_ns else None,
        "side": {
            "paired": packets.paired,
            "unpaired": packets.unpaired,
            "stored": index.sides_stored,
            "lost": packets.side_lost + (packets.unknown if index.paired else 0),
            "packets": index.roles["side"],
        },
        "references": index.roles["reference"],
        "channels": {
            channel.topic: {"messages": index.messages[number], "bytes": index.bytes_by_channel[number]}
            for number, channel in CHANNELS.items()
        },
        "attachments": {attachment.name: len(attachment.data) for attachment in index.attachments},
    }


def _primary(index: Index, packets: _Packets) -> dict[str, Any]:
    pts_ns, sizes = np.array(packets.pts_ns), np.array(packets.bytes)
    count, total, seconds = len(pts_ns), int(sizes.sum()), _duration_s(pts_ns)
    return {
        "packets": count,
        "frames": packets.frames,
        "views": sorted(index.views),
        "sizes": [list(size) for size in sorted(packets.sizes)],
        "qualities": sorted(packets.qualities),
        "model_ids": [_model(model_id) for model_id in sorted(index.model_ids)],
        "streams": len(packets.streams),
        "duration_s": seconds,
        "fps": count / seconds if seconds else None,
        "bytes": total,
        "bpp": 8 * (total - count * HEADER_BYTES) / packets.pixels,
        "kbps": total * 8 / 1000 / seconds if seconds else None,
        "kbps_by_second": _by_second(pts_ns, sizes),
    }


def _by_second(pts_ns: Stamps, sizes: Stamps) -> list[float]:
    """Kilobits in each second of capture time; the last second may be a part of one."""
    seconds = (pts_ns - pts_ns.min()) // 1_000_000_000
    shown = (seconds >= 0) & (seconds < MAX_SECONDS)
    kilobits: list[float] = (np.bincount(seconds[shown], sizes[shown]) * 8 / 1000).tolist()
    return kilobits


def _duration_s(pts_ns: Stamps) -> float | None:
    """From the first stamp to the last, and the last frame's interval, which is the median one."""
    distinct = np.unique(pts_ns)
    if len(distinct) < 2:
        return None
    return (int(distinct[-1]) - int(distinct[0]) + float(np.median(np.diff(distinct)))) / S


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
