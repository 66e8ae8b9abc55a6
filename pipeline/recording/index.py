"""A recording as its readers want it: one entry per packet, each with the side view that it was paired with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcap.records import Attachment

from pipeline.errors import SourceError, WireError
from pipeline.recording.layout import BITS, EVENTS, MAX_JSON, METRICS, PAIRS, SIDE, STREAM, Pair, SideKey, packet_in
from pipeline.recording.scan import Damage, Found, Scan, scan
from pipeline.types import Packet

__all__ = ["Entry", "Index", "Reader", "open_index", "printable"]


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
    """All of a recording, without the payloads."""

    paths: list[Path]
    entries: list[Entry] = field(default_factory=list)
    stream: dict[str, Any] = field(default_factory=dict)
    """The last that the recording says of its stream."""
    events: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
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

    @property
    def primaries(self) -> list[Entry]:
        """The packets of the primary view."""
        return [entry for entry in self.entries if entry.packet.role == "primary"]

    @property
    def paired(self) -> bool:
        """Whether it was recorded behind `pair`."""
        return any(entry.pair for entry in self.entries)

    @property
    def shortcomings(self) -> list[str]:
        """Why it is not complete; empty if it is."""
        why = [f"{path} was cut off before its end" for path in self.unfinished]
        if self.damage:
            why.append("1 place is damaged" if len(self.damage) == 1 else f"{len(self.damage)} places are damaged")
        if missing := self.lost[BITS]:
            why.append("1 packet is missing" if missing == 1 else f"{missing} packets are missing")
        ends = [event for event in self.events if event.get("event") == "end"]
        dropped = sum(n for end in ends if isinstance(n := end.get("dropped"), int))
        if dropped:
            why.append("1 packet was not recorded" if dropped == 1 else f"{dropped} packets were not recorded")
        why += [printable(str(end["why"]))[:500] for end in ends if end.get("why")]
        if ends and ends[-1].get("continues"):
            why.append("the next file is missing")
        return why


def printable(text: str) -> str:
    """Text from a file as a terminal may see it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def open_index(paths: Sequence[Path]) -> Index:
    """The index of a recording, given as its files in order. Raises SourceError."""
    index = Index(list(paths))
    for path in paths:
        _Build(index, scan(path)).run()
    index.entries = _without_doubt(index)
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

    def __init__(self, index: Index, scanned: Scan) -> None:
        self._index, self._scan = index, scanned
        self._reader = Reader()
        self._sides: dict[SideKey, Place] = {}
        self._pair: Pair | None = None
        self._next: Counter[int] = Counter()
        self._gaps: Counter[int] = Counter()
        self._packets = 0
        self._end: dict[str, Any] = {}

    def run(self) -> None:
        index, scanned = self._index, self._scan
        index.size += scanned.size
        index.damage += scanned.damage
        index.attachments += scanned.attachments
        index.unfinished += [] if scanned.finished else [scanned.path]
        for found in scanned.messages:
            index.messages[found.channel] += 1
            index.bytes_by_channel[found.channel] += found.length
            self._count_gap(found)
            self._take(found, Place(scanned.path, found.offset, found.length))
        self._reader.close()
        recorded = self._end.get("packets")
        if isinstance(recorded, int):
            self._gaps[BITS] = max(0, recorded - self._packets)
        index.lost += self._gaps

    def _count_gap(self, found: Found) -> None:
        if found.salvaged:
            self._next[found.channel] += 1
            return
        self._gaps[found.channel] += max(0, found.sequence - self._next[found.channel])
        self._next[found.channel] = found.sequence + 1

    def _take(self, found: Found, place: Place) -> None:
        try:
            if found.channel == BITS:
                self._bits(found, place)
            elif found.channel == SIDE:
                self._sides = {SideKey.of(self._reader.packet(place)): place, **self._newest_sides()}
            elif found.channel == PAIRS:
                self._pair = Pair.from_json(self._reader.data(place))
            elif found.channel in (STREAM, METRICS, EVENTS):
                self._told(found.channel, self._reader.data(place))
        except WireError as error:
            self._damaged(place, str(error))

    def _newest_sides(self) -> dict[SideKey, Place]:
        return dict(list(self._sides.items())[:15])

    def _bits(self, found: Found, place: Place) -> None:
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
        bare = replace(packet, payload=b"")
        self._index.entries.append(Entry(bare, len(packet.payload), place, found.log_ns, pair, side, lost))

    def _told(self, channel: int, data: bytes) -> None:
        try:
            told = json.loads(data) if len(data) <= MAX_JSON else None
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise WireError("expected a JSON object")
        if channel == STREAM:
            self._index.stream.update(told)
        elif channel == EVENTS:
            self._index.events.append(told)
            self._end = told if told.get("event") == "end" else self._end
        elif channel == METRICS:
            self._index.metrics.append(told)

    def _damaged(self, place: Place, what: str) -> None:
        self._index.damage.append(Damage(str(place.path), place.offset, place.offset + place.length, what))


def _without_doubt(index: Index) -> list[Entry]:
    """Where all packets were paired, one without a note has lost it: it must not pass for unpaired."""
    if not index.paired:
        return index.entries
    return [
        replace(entry, side_lost=True) if entry.pair is None and entry.packet.role == "primary" else entry
        for entry in index.entries
    ]
