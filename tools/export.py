"""`sidecast export FILE --to mp4|png|csv`: a recording as a video, as pictures, or as a table of its packets."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.recording.index import Entry, Index, open_index
from tools.replay import add_decoding_arguments, chain, play

__all__ = ["add_arguments", "main"]

COLUMNS = (
    "frame_id",
    "role",
    "view",
    "pts_ns",
    "width",
    "height",
    "quality",
    "payload_bytes",
    "bpp",
    "stream_id",
    "sequence",
    "sent_ns",
    "model_id",
    "side_frame_id",
    "side_offset_ns",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a recording; all of its files, in order")
    parser.add_argument("--to", choices=("mp4", "png", "csv"), required=True)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PATH", help="the file, or the folder of pictures (default: beside FILE)"
    )
    add_decoding_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Write it. Raises SourceError where the recording cannot be read."""
    output = args.output or _beside(args.files[0], args.to)
    if args.to == "csv":
        index = _write_table(args.files, output)
        if why := index.shortcomings:
            print(f"{args.files[0]} is not complete: {'; '.join(why)}", file=sys.stderr)
    else:
        index = open_index(args.files)
        if code := _decode(index, output, args):
            return code
    print(f"{output}: {index.roles['primary']} frames")
    return 0


def _decode(index: Index, output: Path, args: argparse.Namespace) -> int:
    head = {"use": "replay", "file": [str(path) for path in args.files], "rate": 0.0}
    sink = {"use": "write_video" if args.to == "mp4" else "write_images", "path": str(output.absolute())}
    with tempfile.TemporaryDirectory(prefix="sidecast-") as folder, contextlib.redirect_stdout(io.StringIO()):
        return play([*chain(head, index, args), sink], Path(folder), index, args)


def _beside(file: Path, kind: str) -> Path:
    stem = file.name.removesuffix(".part").removesuffix(".mcap")
    return file.with_name(stem if kind == "png" else f"{stem}.{kind}")


def _write_table(files: Sequence[Path], output: Path) -> Index:
    """Row by row, for a recording may be long; returns what the recording holds in all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            index = open_index(files, lambda entry: writer.writerow(_row(entry)))
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
    return index


def _row(entry: Entry) -> dict[str, Any]:
    packet = entry.packet
    return {
        **{name: getattr(packet, name) for name in COLUMNS if hasattr(packet, name)},
        "model_id": packet.model_id.hex(),
        "payload_bytes": entry.payload_bytes,
        "bpp": f"{8 * entry.payload_bytes / (packet.width * packet.height):.6g}",
        **_side(entry),
    }


def _side(entry: Entry) -> dict[str, Any]:
    if entry.pair is None or entry.pair.side is None:
        return {}
    return {"side_frame_id": entry.pair.side.frame_id, "side_offset_ns": entry.pair.offset_ns}
