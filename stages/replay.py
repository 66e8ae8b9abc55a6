"""A recording as a source of packets, each with the side view that it was paired with."""

from __future__ import annotations

import glob
import select
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field

from pipeline.errors import SourceError, StageError, WireError
from pipeline.ledger import Ledger
from pipeline.recording.index import Entry, Index, Reader, open_index, printable
from pipeline.stage import Context, Source
from pipeline.types import Frame, Item, Packet, StereoPair
from pipeline.wire import HEADER_BYTES
from stages.excerpt import Excerpt, Packets
from stages.lossless import CODING_ID, unpack
from stages.troubles import Troubles

__all__ = ["Replay"]

MS, S = 1_000_000, 1_000_000_000
SHOWN_DAMAGE = 10
LONGEST_WAIT_S = 24 * 3600.0


@dataclass(kw_only=True)
class Replay(Source):
    """Play a recording: its packets in order, at the pace of their capture.

    Recorded behind `pair`, a packet comes out with the very side frame of that pair, or none, so no `pair` is needed.
    A packet whose side frame is damaged is dropped as `corrupt`: decoded without it, it would not be what was seen.
    """

    file: Annotated[
        str | Annotated[list[str], Field(min_length=1)],
        Field(description="the recording, a glob of its files, or a list of them"),
    ]
    rate: Annotated[float, Field(ge=0, le=1000, description="1: the pace of capture; 0: as fast as possible")] = 1.0
    start_s: Annotated[float, Field(ge=0, description="begin so many seconds of capture time after the first")] = 0.0
    duration_s: Annotated[float | None, Field(gt=0, description="seconds of capture time; null: to the end")] = None
    loop: Annotated[bool, Field(description="begin anew at the end, with frame numbers and times that go on")] = False
    step: Annotated[bool, Field(description="wait for Enter before each frame; q and Enter ends")] = False
    side: Annotated[
        Source | None, Field(description="read the side views from here, by frame_id; null: those of the recording")
    ] = None
    packets_only: Annotated[bool, Field(description="leave the side views out, for `pair` or `send`")] = False

    _context: Context = field(init=False, repr=False)
    _index: Index = field(init=False, repr=False)
    _excerpt: Excerpt = field(init=False, repr=False)
    _reader: Reader = field(init=False, repr=False)
    _troubles: Troubles | None = field(init=False, repr=False, default=None)
    _begin_ns: int | None = field(init=False, repr=False, default=None)
    _side_of: tuple[Any, Frame] | None = field(init=False, repr=False, default=None)

    def open(self, context: Context) -> None:
        """Read the whole file once. Raises SourceError where it is no recording or has nothing to play."""
        self._context, self._reader, self._troubles = context, Reader(), Troubles(context)
        packets = Packets()
        self._index = open_index(_files(self.file), packets.see)
        self._excerpt = self._choose(packets)
        self._tell_shortcomings()
        context.facts.update(self._facts())
        if self.side is not None:
            self.side.open(replace(context, ledger=Ledger(), facts={}))

    def read(self) -> Iterator[Item]:
        """StereoPairs, or Packets where no pairing was recorded or wanted."""
        return self._read(paced=True)

    def pull(self) -> Iterator[Item]:
        return self._read(paced=False)

    def expected_frames(self) -> int | None:
        return None if self.loop else self._excerpt.frames

    def close(self) -> None:
        self._reader.close()
        if self._troubles is not None:
            self._troubles.close()
        if self.side is not None:
            self.side.close()

    @property
    def _name(self) -> str:
        return self.file if isinstance(self.file, str) else self.file[0]

    def _choose(self, packets: Packets) -> Excerpt:
        """The packets between start and end; by capture time, as frames stand alone."""
        span_ns = packets.span_ns()
        if span_ns is None:
            found = f"; {self._index.damage[0]}" if self._index.damage else ""
            raise SourceError(f"{self._name} has no packet of a primary view{found}")
        begin_ns = span_ns[0] + round(self.start_s * S)
        excerpt = packets.between(begin_ns, None if self.duration_s is None else begin_ns + round(self.duration_s * S))
        if excerpt is None:
            length = (span_ns[1] - span_ns[0]) / S
            raise SourceError(f"{self._name} has no frame there: it lasts {length:.3f} s, start_s is {self.start_s:g}")
        return excerpt

    def _tell_shortcomings(self) -> None:
        for damage in self._index.damage[:SHOWN_DAMAGE]:
            self._context.log.warning("%s", damage)
        if (more := len(self._index.damage) - SHOWN_DAMAGE) > 0:
            self._context.log.warning("%d more damaged places, `sidecast info` lists them all", more)
        if why := self._index.shortcomings:
            self._context.log.warning("%s is not complete: %s", self._name, "; ".join(why))

    def _facts(self) -> dict[str, Any]:
        """What the recording knows for the report, and the weights for the link and the decoder."""
        stream = self._index.stream
        first = next(e.packet for e in self._excerpt.entries(self._index) if e.packet.role == "primary")
        names = ("model", "encode_device")
        known = {name: printable(stream[name])[:100] for name in names if isinstance(stream.get(name), str)}
        return {
            **known,
            "model_id": first.model_id.hex(),
            "quality": first.quality,
            "width": first.width,
            "height": first.height,
            "side_bytes_on_wire": self._excerpt.side_bytes,
        }

    # Playing.

    def _read(self, *, paced: bool) -> Iterator[Item]:
        self._begin_ns = None
        excerpt, turn = self._excerpt, 0
        while turn == 0 or self.loop:
            for entry in excerpt.entries(self._index):
                item = self._item(entry, turn * excerpt.period_ids, turn * excerpt.period_ns)
                if item is None:
                    continue
                if paced and not self._wait(item):
                    return
                if self._context.stop.is_set():
                    return
                self._account(item)
                yield self._stamped(item)
            turn += 1

    def _item(self, entry: Entry, more_ids: int, more_ns: int) -> Packet | StereoPair | None:
        """What is played of an entry; None where that is damaged, which is counted."""
        bare = replace(entry.packet, frame_id=entry.packet.frame_id + more_ids, pts_ns=entry.packet.pts_ns + more_ns)
        try:
            packet = replace(bare, payload=self._reader.packet(entry.place).payload)
            paired = entry.pair is not None or entry.side_lost or self.side is not None
            if packet.role != "primary" or self.packets_only or not paired:
                return packet
            return self._paired(entry, packet, more_ids, more_ns)
        except WireError as error:
            self._refuse(bare, str(error))
            return None

    def _paired(self, entry: Entry, packet: Packet, more_ids: int, more_ns: int) -> StereoPair:
        side = self._side(entry, packet)
        if side is None:
            return StereoPair(packet, None)
        offset_ns = entry.pair.offset_ns if entry.pair else side.pts_ns - entry.packet.pts_ns
        side = replace(side, frame_id=side.frame_id + more_ids, pts_ns=side.pts_ns + more_ns, role="side")
        return StereoPair(packet, side, offset_ns)

    def _side(self, entry: Entry, packet: Packet) -> Frame | None:
        """The side frame of a packet, from the recording or from `side`."""
        if self.side is not None:
            return self._side_from(self.side, entry, packet)
        if entry.side_lost:
            raise WireError("the side frame that it was paired with is damaged")
        if entry.pair is not None and entry.pair.side is not None and entry.side is None:
            raise StageError(
                "replay", packet.frame_id, "the recording does not have the side views, give their source with `side`"
            )
        if entry.side is None:
            return None
        if self._side_of is None or self._side_of[0] != entry.side:
            self._side_of = (entry.side, self._picture(self._reader.packet(entry.side)))
        return self._side_of[1]

    def _side_from(self, source: Source, entry: Entry, packet: Packet) -> Frame | None:
        """The frame that the recording names; where it names none, that of the same frame_id."""
        if entry.pair is not None and entry.pair.side is None:
            return None
        if entry.pair is None and entry.side_lost:
            raise WireError("the note with which side frame it was paired is damaged")
        frame_id = entry.pair.side.frame_id if entry.pair and entry.pair.side else entry.packet.frame_id
        side = source.frame_at(frame_id)
        if side is not None and side.view == packet.view:
            raise StageError(
                "replay", packet.frame_id, f"the side view and the primary view are both the {side.view} one"
            )
        return side

    def _picture(self, packet: Packet) -> Frame:
        if packet.model_id != CODING_ID:
            raise WireError(f"its side frame is coded as {packet.model_id!r}, expected {CODING_ID!r}")
        pixels = unpack(packet.payload, packet.width, packet.height)
        return Frame(pixels, packet.view, packet.frame_id, packet.pts_ns, packet.taken_ns, "side")

    def _account(self, item: Packet | StereoPair) -> None:
        """Count what is handed over now, as `receive` and `pair` would have."""
        packet = _packet_of(item)
        size, metrics, note = len(packet.payload), self._context.metrics, self._context.ledger.note
        metrics.payload_bytes.labels(packet.role).inc(size)
        if packet.role != "primary":
            return
        self._context.ledger.frame_in(packet.frame_id, packet.pts_ns)
        bpp = 8 * size / (packet.width * packet.height)
        note(packet.frame_id, payload_bytes=size, wire_bytes=HEADER_BYTES + size, bpp=bpp)
        if isinstance(item, Packet):
            return
        if item.side is None:
            note(packet.frame_id, unpaired=1.0)
            metrics.unpaired.inc()
        else:
            note(packet.frame_id, side_offset_ms=item.offset_ns / MS)
            metrics.pair_offset_seconds.set(item.offset_ns / S)

    def _refuse(self, packet: Packet, why: str) -> None:
        if packet.role == "primary":
            self._context.ledger.drop(packet.frame_id, "corrupt", packet.pts_ns)
        self._context.metrics.wire_errors.inc()
        if self._troubles is not None:
            self._troubles.say(f"replay: the {packet.role} view of frame {packet.frame_id} is left out: {why}")

    # Time.

    def _wait(self, item: Packet | StereoPair) -> bool:
        """Until the item is due; False where the user wants no more."""
        packet = _packet_of(item)
        if self.step and packet.role == "primary":
            return self._await_enter(packet.frame_id)
        clock = self._context.clock
        now_ns = clock.monotonic_ns()
        self._begin_ns = now_ns if self._begin_ns is None else self._begin_ns
        if self.rate > 0:
            due_ns = self._begin_ns + round((packet.pts_ns - self._excerpt.first_ns) / self.rate)
            clock.sleep(min((due_ns - now_ns) / S, LONGEST_WAIT_S), until=self._context.stop)
        return True

    def _await_enter(self, frame_id: int) -> bool:
        self._context.log.info("Enter plays frame %d, q ends", frame_id)
        while not self._context.stop.is_set():
            if select.select([sys.stdin], [], [], 0.2)[0]:
                line = sys.stdin.readline()
                return bool(line) and line.strip().lower() != "q"
        return False

    def _stamped(self, item: Packet | StereoPair) -> Packet | StereoPair:
        """This node hands it over now, by its own clock."""
        packet = replace(_packet_of(item), taken_ns=self._context.clock.wall_ns(), clock_offset_ns=0)
        return packet if isinstance(item, Packet) else replace(item, primary=packet)


def _packet_of(item: Packet | StereoPair) -> Packet:
    return cast(Packet, item.primary if isinstance(item, StereoPair) else item)


def _files(given: str | list[str]) -> list[Path]:
    if isinstance(given, list):
        return [path for text in given for path in _files(text)]
    if Path(given).is_file() or not glob.has_magic(given):
        return [Path(given)]
    found = sorted(Path(match) for match in glob.glob(given) if Path(match).is_file())
    if not found:
        raise SourceError(f"{given}: no file matches")
    return found
