"""A recording as its readers want it: one entry per packet, each with the side view that it was paired with.

A reading of the files builds the index, another one gives the packets again: no packet is kept, so memory does not grow
with the recording.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcap.records import Attachment

from pipeline.errors import SourceError, WireError
from pipeline.recording.layout import BITS, EVENTS, MAX_JSON, PAIRS, SIDE, STREAM, Pair, SideKey, packet_in
from pipeline.recording.records import Damage, Found
from pipeline.recording.scan import Scan
from pipeline.types import Packet, Role, View

__all__ = ["Entry", "Index", "Place", "Reader", "open_index", "printable"]

SIDES_KEPT = 16
"""Side frames that a packet may still be paired with."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a packet lies."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A packet of a recording."""

    packet: Packet
    """Without its payload."""
    payload_bytes: int
    place: Place
    log_ns: int
    pair: Pair | None = None
    """What it was paired with; None where that was not recorded."""
    side: Place | None = None
    """That side view, where the recording has it."""
    side_lost: bool = False
    """It had one, or the note about it, and that is damaged."""


@dataclass(slots=True)
class Index:
    """What a recording holds in all. The packets are not kept: `entries` reads them again, however many there are."""

    paths: list[Path]
    roles: Counter[Role] = field(default_factory=Counter)
    """Packets by role."""
    paired: bool = False
    """Whether it was recorded behind `pair`."""
    sides_named: int = 0
    """Packets that were paired with a side frame."""
    sides_stored: int = 0
    """Those of which the recording has, or had, that frame."""
    views: set[View] = field(default_factory=set)
    """Of the packets of the primary view."""
    model_ids: set[bytes] = field(default_factory=set)
    """Of the packets of the primary view."""
    number: int = 0
    """Which file of its recording the last one is."""
    stream: dict[str, Any] = field(default_factory=dict)
    """The last that the recording says of its stream."""
    ends: list[dict[str, Any]] = field(default_factory=list)
    """The last message of each file that has one."""
    attachments: list[Attachment] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    messages: Counter[int] = field(default_factory=Counter)
    """Sound messages by channel."""
    lost: Counter[int] = field(default_factory=Counter)
    """Messages by channel that were recorded and are missing, as far as what is left tells."""
    bytes_by_channel: Counter[int] = field(default_factory=Counter)
    size: int = 0
    unfinished: list[Path] = field(default_factory=list)
    """Files whose recorder was cut off."""
    strangers: list[Path] = field(default_factory=list)
    """Files that follow one which was the last of its recording."""
    orphans: list[Path] = field(default_factory=list)
    """Files without the one before them."""

    @property
    def shortcomings(self) -> list[str]:
        """Why it is not complete; empty if it is."""
        why = [f"{path} was cut off before its end" for path in self.unfinished]
        if self.damage:
            why.append("1 place is damaged" if len(self.damage) == 1 else f"{len(self.damage)} places are damaged")
        if missing := self.lost[BITS]:
            why.append("1 packet is missing" if missing == 1 else f"{missing} packets are missing")
        dropped = sum(n for end in self.ends if isinstance(n := end.get("dropped"), int))
        if dropped:
            why.append("1 packet was not recorded" if dropped == 1 else f"{dropped} packets were not recorded")
        why += [printable(str(end["why"]))[:500] for end in self.ends if end.get("why")]
        if self.ends and self.ends[-1].get("continues"):
            why.append("the next file is missing")
        why += [f"{path} belongs to another recording" for path in self.strangers]
        why += [f"the file before {path} is missing" for path in self.orphans]
        return why

    def entries(self) -> Iterator[Entry]:
        """All packets in order, in another reading of the files. Raises SourceError.

        Where packets were paired, one without a note has lost it: it must not pass for unpaired.
        """
        for path in self.paths:
            for entry in _Build(Index([]), Scan(path)).entries():
                unknown = self.paired and entry.pair is None and entry.packet.role == "primary"
                yield replace(entry, side_lost=True) if unknown else entry


def printable(text: str) -> str:
    """Text from a file as a terminal may see it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def open_index(paths: Sequence[Path], see: Callable[[Entry], None] = lambda entry: None) -> Index:
    """The index of a recording, given as its files in order; `see` is shown every packet. Raises SourceError."""
    index, seen = Index(list(paths)), set[str]()
    for path in paths:
        if (real := os.path.realpath(path)) in seen:
            raise SourceError(f"{path} is given twice")
        seen.add(real)
        for entry in _Build(index, Scan(path)).entries():
            see(entry)
    return index


class Reader:
    """Reads packets of an index; keeps the file open that was read last."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: Any = None

    def packet(self, place: Place) -> Packet:
        """The whole packet. Raises WireError where it is damaged, SourceError where the file cannot be read."""
        return packet_in(self.data(place))

    def data(self, place: Place) -> bytes:
        """The bytes of a message."""
        try:
            if self._path != place.path:
                self.close()
                self._file, self._path = place.path.open("rb"), place.path
            self._file.seek(place.offset)
            data: bytes = self._file.read(place.length)
            return data
        except OSError as error:
            raise SourceError(f"{place.path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = self._path = None


class _Build:
    """Adds one file to an index."""

    def __init__(self, index: Index, scan: Scan) -> None:
        self._index, self._scan = index, scan
        self._reader = Reader()
        self._sides: dict[SideKey, Place] = {}
        self._pair: Pair | None = None
        self._next: Counter[int] = Counter()
        self._gaps: Counter[int] = Counter()
        self._packets = self._lost_sides = self._number = 0
        self._lost_side: SideKey | None = None
        self._end: dict[str, Any] = {}

    def entries(self) -> Iterator[Entry]:
        """The packets; when all are taken, the file is in the index."""
        index, scan = self._index, self._scan
        try:
            for found in scan.messages():
                index.messages[found.channel] += 1
                index.bytes_by_channel[found.channel] += found.length
                self._count_gap(found)
                entry = self._take(found, Place(scan.path, found.offset, found.length))
                if entry is not None:
                    self._count(entry)
                    yield entry
        finally:
            self._reader.close()
        index.size += scan.size
        index.damage += scan.damage
        index.attachments += scan.attachments
        index.unfinished += [] if scan.finished else [scan.path]
        self._place()
        index.ends += [self._end] if self._end else []
        recorded = self._end.get("packets")
        if isinstance(recorded, int):
            self._gaps[BITS] = max(0, recorded - self._packets)
        self._gaps[SIDE] = max(self._gaps[SIDE], self._lost_sides)
        index.lost += self._gaps

    def _place(self) -> None:
        """Note where the file before it is missing; a file that does not say which one it is passes for the next."""
        index, expected = self._index, self._index.number + 1
        number = self._number or expected
        if number not in (1, expected):
            index.orphans.append(self._scan.path)
        if index.ends and index.ends[-1].get("complete") and not index.ends[-1].get("continues"):
            index.strangers.append(self._scan.path)
        index.number = number

    def _count_gap(self, found: Found) -> None:
        if found.salvaged:
            self._next[found.channel] += 1
            return
        self._gaps[found.channel] += max(0, found.sequence - self._next[found.channel])
        self._next[found.channel] = found.sequence + 1

    def _take(self, found: Found, place: Place) -> Entry | None:
        try:
            if found.channel == BITS:
                return self._bits(found, place)
            if found.channel == SIDE:
                self._remember_side(SideKey.of(self._reader.packet(place)), place)
            elif found.channel == PAIRS:
                self._pair = Pair.from_json(self._reader.data(place))
            elif found.channel in (STREAM, EVENTS):
                self._told(found.channel, place)
        except WireError as error:
            self._scan.damage.append(Damage(str(place.path), place.offset, place.offset + place.length, str(error)))
        return None

    def _remember_side(self, key: SideKey, place: Place) -> None:
        self._sides[key] = place
        if len(self._sides) > SIDES_KEPT:
            del self._sides[next(iter(self._sides))]

    def _bits(self, found: Found, place: Place) -> Entry:
        packet = self._reader.packet(place)
        self._packets += 1
        pair, self._pair = self._pair, None
        if pair and (pair.frame_id, pair.stream_id, pair.sequence) != (
            packet.frame_id,
            packet.stream_id,
            packet.sequence,
        ):
            pair = None
        side = self._sides.get(pair.side) if pair and pair.side else None
        lost = bool(pair and pair.side and pair.stored and side is None)
        return Entry(replace(packet, payload=b""), len(packet.payload), place, found.log_ns, pair, side, lost)

    def _count(self, entry: Entry) -> None:
        index, packet, pair = self._index, entry.packet, entry.pair
        index.roles[packet.role] += 1
        if pair is not None:
            index.paired = True
            index.sides_named += pair.side is not None
            index.sides_stored += pair.stored
            if entry.side_lost and pair.side != self._lost_side:
                self._lost_side = pair.side
                self._lost_sides += 1
        if packet.role == "primary":
            index.views.add(packet.view)
            index.model_ids.add(packet.model_id)

    def _told(self, channel: int, place: Place) -> None:
        try:
            told = json.loads(self._reader.data(place)) if place.length <= MAX_JSON else None
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise WireError("expected a JSON object")
        if channel == STREAM:
            self._index.stream = told
            self._number = number if isinstance(number := told.get("file"), int) else self._number
        elif told.get("event") == "end":
            self._end = told
