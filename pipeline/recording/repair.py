"""A truncated or damaged recording made whole: what is sound goes to a new file, what is not is counted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SidecastError, SourceError
from pipeline.recording.index import Index, Place, Reader, open_index
from pipeline.recording.layout import BITS, EVENTS, PAIRS, SIDE, is_sound
from pipeline.recording.records import Found
from pipeline.recording.scan import Scan
from pipeline.recording.writer import Writer
from pipeline.replacing import replacing

__all__ = ["Repaired", "repair"]

REPAIRED = "repaired: "


@dataclass(frozen=True)
class Repaired:
    """What became of a recording."""

    index: Index
    """Of the damaged file."""
    kept: Counter[int]
    """Messages by channel in the new one."""


def repair(source: Path, target: Path) -> Repaired:
    """Copy all that is sound. Raises SourceError for a file with nothing to save, SidecastError if it can't write."""
    index = open_index([source])
    if not index.messages[BITS]:
        found = f"; {index.damage[0]}" if index.damage else ""
        raise SourceError(f"{source} has no packet that could be saved{found}")
    try:
        with replacing(target) as unfinished:
            kept = _write(index, source, unfinished)
    except OSError as error:
        raise SidecastError(f"{target} cannot be written: {error.strerror or error}") from error
    return Repaired(index, kept)


def _write(index: Index, source: Path, target: Path) -> Counter[int]:
    """The new file; returns the messages by channel in it."""
    attachments = [(a.name, a.media_type, a.data) for a in index.attachments]
    created_ns = min((a.create_time for a in index.attachments), default=0)
    reader = Reader()
    with target.open("xb", buffering=0) as file:
        writer = Writer(file, attachments, now_ns=created_ns)
        try:
            for found in Scan(source).messages():
                _copy(found, reader.data(Place(source, found.offset, found.length)), writer)
        finally:
            reader.close()
        writer.finish(lambda: json.dumps(_end(index, writer)).encode())
    return writer.counts


def _copy(found: Found, data: bytes, writer: Writer) -> None:
    if found.channel in (BITS, SIDE, PAIRS) and not is_sound(found.channel, data):
        return
    if found.channel == EVENTS and b'"end"' in data[:40]:
        return
    writer.add(found.channel, data, found.log_ns, found.publish_ns)


def _end(index: Index, writer: Writer) -> dict[str, Any]:
    """The end of the new file, which says what is missing."""
    old = index.ends[-1] if index.ends else {}
    before = old.get("dropped")
    dropped = (before if isinstance(before, int) else 0) + index.lost[BITS]
    before_why = [str(old["why"]).removeprefix(REPAIRED)] if old.get("why") else []
    why = "; ".join([*before_why, *_reasons(index)])
    end = {"event": "end", "packets": writer.counts[BITS], "dropped": dropped, "complete": not why}
    continues = {"continues": True} if old.get("continues") else {}
    return {**end, **continues, **({"why": f"{REPAIRED}{why}"} if why else {})}


def _reasons(index: Index) -> list[str]:
    places = len(index.damage)
    return [
        *(["it was cut off before its end"] if index.unfinished else []),
        *([f"{places} damaged place{'s' * (places != 1)}"] if places else []),
    ]
