"""What of a recording is played: the packets between two capture times. A library of the stage `replay`."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.recording.index import Entry, Index
from pipeline.types import Packet
from pipeline.wire import HEADER_BYTES

__all__ = ["Excerpt", "Packets"]

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The packets of `begin_ns <= pts_ns < end_ns`."""

    begin_ns: int
    end_ns: int | None
    packets: int
    """Of all roles."""
    frames: int
    """Packets of the primary view."""
    first_ns: int
    """The least pts of those."""
    side_bytes: int
    """On the wire, of the side views that were sent."""
    period_ids: int
    """By how much frame numbers are more in each turn of a loop."""
    period_ns: int
    """The same of capture times."""

    def entries(self, index: Index) -> Iterator[Entry]:
        """The packets, in the order of the recording."""
        left = self.packets
        for entry in index.entries():
            if self._has(entry.packet):
                yield entry
                left -= 1
            if not left:
                return

    def _has(self, packet: Packet) -> bool:
        return packet.pts_ns >= self.begin_ns and (self.end_ns is None or packet.pts_ns < self.end_ns)


class Packets:
    """A few numbers of every packet, to choose from."""

    def __init__(self) -> None:
        self._pts_ns, self._ids, self._bytes = array("q"), array("q"), array("q")
        self._primary, self._side = bytearray(), bytearray()

    def see(self, entry: Entry) -> None:
        """Take them from a packet."""
        self._pts_ns.append(entry.packet.pts_ns)
        self._ids.append(entry.packet.frame_id)
        self._bytes.append(HEADER_BYTES + entry.payload_bytes)
        self._primary.append(entry.packet.role == "primary")
        self._side.append(entry.packet.role == "side")

    def span_ns(self) -> tuple[int, int] | None:
        """The first and the last pts of the primary view; None where it has no packet."""
        stamps = np.array(self._pts_ns)[np.array(self._primary, bool)]
        return (int(stamps.min()), int(stamps.max())) if len(stamps) else None

    def between(self, begin_ns: int, end_ns: int | None) -> Excerpt | None:
        """The excerpt from one time to before another, None for the end; None where no frame is in it."""
        pts_ns, ids, primary = np.array(self._pts_ns), np.array(self._ids), np.array(self._primary, bool)
        chosen = pts_ns >= begin_ns
        if end_ns is not None:
            chosen &= pts_ns < end_ns
        stamps = np.unique(pts_ns[chosen & primary])
        if not len(stamps):
            return None
        interval_ns = int(np.median(np.diff(stamps))) if len(stamps) > 1 else 100 * MS
        return Excerpt(
            begin_ns,
            end_ns,
            packets=int(chosen.sum()),
            frames=int((chosen & primary).sum()),
            first_ns=int(stamps[0]),
            side_bytes=int(np.array(self._bytes)[chosen & np.array(self._side, bool)].sum()),
            period_ids=int(ids[chosen].max()) - int(ids[chosen].min()) + 1,
            period_ns=int(stamps[-1]) - int(stamps[0]) + interval_ns,
        )
