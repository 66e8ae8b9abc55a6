"""What several commands ask of their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import SidecastError

__all__ = ["beside", "positive", "spare"]


def positive(text: str) -> int:
    """A whole number of at least 1, as a `type` of argparse."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not allowed, expected a whole number of at least 1")
    return int(text)


def beside(recording: Path, suffix: str) -> Path:
    """What is made of a recording by default: a name beside it."""
    return recording.parent / f"{recording.name.removesuffix('.part').removesuffix('.mcap')}{suffix}"


def spare(output: Path, inputs: Iterable[Path]) -> None:
    """Raise SidecastError where the output would destroy what it is made of."""
    for path in inputs:
        if path.is_file() and output.exists() and path.samefile(output):
            raise SidecastError(f"{output} is read and would be written over, name another output with -o")
