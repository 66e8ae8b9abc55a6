"""`sidecast export FILE --to mp4|png|csv`: a recording as a video, as pictures, or as a table of its packets."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import SidecastError
from pipeline.recording.index import Entry, Index, open_index
from pipeline.replacing import replacing
from tools.arguments import beside, spare
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
    """Write it; the exit code is 1 where a frame is missing. Raises SidecastError where there is nothing to write."""
    output = args.output or beside(args.files[0], "" if args.to == "png" else f".{args.to}")
    spare(output, args.files)
    if args.to != "csv":
        return _decode(output, args)
    index = _write_table(args.files, output)
    if why := index.shortcomings:
        print(f"{args.files[0]} is not complete: {'; '.join(why)}", file=sys.stderr)
    print(f"{output}: {index.roles['primary']} frames")
    return 0


def _decode(output: Path, args: argparse.Namespace) -> int:
    index = open_index(args.files)
    head = {"use": "replay", "file": [str(path) for path in args.files], "rate": 0.0}
    sink = {"use": "write_video" if args.to == "mp4" else "write_images", "path": str(output.absolute())}
    with tempfile.TemporaryDirectory(prefix="sidecast-") as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            code = play([*chain(head, index, args), sink], Path(folder), index, args)
        report = Path(folder) / "report.json"
        told = json.loads(report.read_text()) if report.is_file() else {"frames_out": 0, "drops": {}}
    return code or _tell(output, index.roles["primary"], told)


def _tell(output: Path, packets: int, report: dict[str, Any]) -> int:
    """Print how many of the packets became frames; fewer do where some are damaged, or the user has had enough."""
    frames, drops = report["frames_out"], report["drops"]
    if frames == packets:
        print(f"{output}: {frames} frames")
        return 0
    why = ", ".join(f"{count} {reason}" for reason, count in drops.items()) or "stopped by the user"
    print(f"{output}: {frames} of {packets} frames ({why})")
    return 1


def _write_table(files: Sequence[Path], output: Path) -> Index:
    """Row by row, for a recording may be long; returns what the recording holds in all."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            return open_index(files, lambda entry: writer.writerow(_row(entry)))
    except OSError as error:
        raise SidecastError(f"{output} cannot be written: {error.strerror or error}") from error


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
