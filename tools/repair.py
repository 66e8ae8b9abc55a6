"""`sidecast repair FILE`: a truncated or damaged recording becomes a clean one."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.errors import SidecastError
from pipeline.recording.layout import BITS, SIDE
from pipeline.recording.repair import repair
from tools.arguments import beside

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a recording, such as recording.mcap.part")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the new one (default: NAME.repaired.mcap beside it)"
    )


def main(args: argparse.Namespace) -> int:
    """Write the new file, print what was kept and lost. Raises SidecastError where that is impossible."""
    target = args.output or beside(args.file, ".repaired.mcap")
    if target.exists():
        raise SidecastError(f"{target} is there already, name another file with -o")
    repaired = repair(args.file, target)
    for damage in repaired.index.damage:
        print(f"damaged: {damage}")
    if repaired.index.unfinished:
        print(f"{args.file} has no end: its recorder was cut off")
    kept, lost = repaired.kept, repaired.index.lost
    print(
        f"{target}: {kept[BITS]} packets kept, {lost[BITS]} known to be lost; "
        f"{kept[SIDE]} side frames kept, {lost[SIDE]} lost"
    )
    return 0
