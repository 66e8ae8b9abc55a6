"""`sidecast export FILE --to mp4|png|csv`: a recording as a video, as pictures, or as a table of its packets."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import tempfile
from collections.abc import Iterator
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
    index = open_index(args.files)
    output = args.output or _beside(args.files[0], args.to)
    if args.to == "csv":
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(_table(index))
    elif code := _decode(index, output, args):
        return code
    print(f"{output}: {len(index.primaries)} frames")
    return 0


def _decode(index: Index, output: Path, args: argparse.Namespace) -> int:
    head = {"use": "replay", "file": [str(path) for path in args.files], "rate": 0.0}
    sink = {"use": "write_video" if args.to == "mp4" else "write_images", "path": str(output.absolute())}
    with tempfile.TemporaryDirectory(prefix="sidecast-") as folder, contextlib.redirect_stdout(io.StringIO()):
        return play([*chain(head, index, args), sink], Path(folder), index, args)


def _beside(file: Path, kind: str) -> Path:
    stem = file.name.removesuffix(".part").removesuffix(".mcap")
    return file.with_name(stem if kind == "png" else f"{stem}.{kind}")


def _table(index: Index) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([values.get(name, "") for name in COLUMNS] for values in _rows(index))
    return text.getvalue()


def _rows(index: Index) -> Iterator[dict[str, Any]]:
    for entry in index.entries:
        packet, side = entry.packet, _side(entry)
        plain = {name: getattr(packet, name) for name in COLUMNS if hasattr(packet, name)}
        yield {
            **plain,
            "model_id": packet.model_id.hex(),
            "payload_bytes": entry.payload_bytes,
            "bpp": f"{8 * entry.payload_bytes / (packet.width * packet.height):.6g}",
            **side,
        }


def _side(entry: Entry) -> dict[str, Any]:
    if entry.pair is None or entry.pair.side is None:
        return {}
    return {"side_frame_id": entry.pair.side.frame_id, "side_offset_ns": entry.pair.offset_ns}
