"""Which packets are under way: the books of both ends of the link, without any I/O.

`Outbox` (encoder) keeps every packet until it is done and knows what may be sent; `Inbox` (decoder) hands each packet
on once and knows what to acknowledge; `Feed` brings the changes of the encoder's ledger across, each at least once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.ledger import OUT
from pipeline.types import Packet, Role
from pipeline.wire import Ack, Change

__all__ = ["Feed", "Inbox", "Outbox", "Settled"]

MAX_ROWS = 200
"""Ledger rows in one message."""
MAX_HELPERS = 64
"""Side views and references that wait for their frame to settle."""
RECENT = 128
"""Settled packets that are told again after a reconnect."""
REMEMBERED = 8192
"""Packets by which an `Inbox` tells repetitions; it asks about older frames."""

Settled = tuple[Packet, str]
"""A packet and what became of it: `out` or the reason for which it was dropped."""


@dataclass(slots=True)
class _Entry:
    packet: Packet
    sent: bool = False
    """In this connection."""
    received: bool = False
    """The decoder that is connected now has it."""
    times_sent: int = 0
    wire_bytes: int = 0


class Outbox:
    """The packets of one stream that are not done, oldest first, and the credits of the window."""

    def __init__(self, window: int, max_age_ns: int | None = None) -> None:
        """`max_age_ns`: live mode; older packets are stale at a reconnect."""
        self.window, self._max_age_ns = window, max_age_ns
        self._entries: dict[int, _Entry] = {}
        self._next_sequence = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def room(self) -> bool:
        """Whether another packet may be added: fewer than the window are waiting for `received`."""
        return sum(not e.received for e in self._entries.values()) < self.window

    @property
    def credits(self) -> int:
        """How many packets may be sent now."""
        return self.window - sum(e.sent and not e.received for e in self._entries.values())

    @property
    def all_sent(self) -> bool:
        """Whether nothing waits for credit or connection."""
        return all(e.sent for e in self._entries.values())

    def add(self, packet: Packet, stream_id: int) -> None:
        """Take a packet into the stream; it gets the next sequence."""
        packet = replace(packet, stream_id=stream_id, sequence=self._next_sequence)
        self._entries[self._next_sequence] = _Entry(packet)
        self._next_sequence += 1

    def next(self) -> tuple[Packet, bool] | None:
        """The packet to be sent now and whether it was sent before; None without packet or credit."""
        if self.credits <= 0:
            return None
        for entry in self._entries.values():
            if not entry.sent:
                entry.sent = True
                entry.times_sent += 1
                return entry.packet, entry.times_sent > 1
        return None

    def count_bytes(self, sequence: int, size: int) -> int:
        """Add the bytes of one sending; the total of this packet is returned."""
        entry = self._entries[sequence]
        entry.wire_bytes += size
        return entry.wire_bytes

    def acknowledge(self, ack: Ack) -> list[Settled]:
        """Give back credit, forget what is done; the latter is returned."""
        for sequence, entry in self._entries.items():
            entry.received |= entry.sent and sequence <= ack.received
        return [(self._entries.pop(s).packet, how) for s, how in ack.done if s in self._entries]

    def connected(self, welcome: Ack, now_wall_ns: int) -> list[Settled]:
        """Start over with a decoder that has `welcome.taken` of this stream; what is done or stale is returned."""
        settled = self.acknowledge(replace(welcome, received=-1))
        taken = -1 if welcome.taken is None else welcome.taken
        undone = set(welcome.undone or ())
        for sequence, entry in list(self._entries.items()):
            entry.sent = entry.received = sequence <= taken
            if sequence <= taken and sequence not in undone:
                settled.append((self._entries.pop(sequence).packet, OUT))
            elif sequence > taken and self._stale(entry.packet, now_wall_ns):
                settled.append((self._entries.pop(sequence).packet, "stale"))
        return settled

    def disconnected(self) -> None:
        """Nobody has anything for certain until the next welcome."""
        for entry in self._entries.values():
            entry.sent = entry.received = False

    def _stale(self, packet: Packet, now_wall_ns: int) -> bool:
        return self._max_age_ns is not None and now_wall_ns - packet.taken_ns > self._max_age_ns


_Key = tuple[int, Role]
Written = Callable[[int], tuple[int, str] | None]
"""pts_ns and status of a frame that came here long ago and has settled; None where there was none."""


class Inbox:
    """The packets that wait for the decoder's chain, and what is to be acknowledged of the current stream.

    A packet is handed on once: what has the frame_id and role of an earlier one of its stream is a repetition. An
    encoder that died and came back starts a new stream; of a recording it will send frames that were here already, told
    by the same frame_id and pts, and those are repetitions too. A camera's counter starts again with other pts: its
    frames are handed on, and are done at once, because the ledger settles a frame_id only once.

    The last packets are remembered here; about an older frame `written` is asked. Older side views and references of a
    recording that begins anew are handed on, and nothing comes of them.
    """

    def __init__(self, written: Written = lambda frame_id: None) -> None:
        self._written = written
        self.stream_id: int | None = None
        self.taken = -1
        self._waiting: deque[Packet] = deque()
        self._seen: dict[_Key, tuple[int, int]] = {}
        """pts_ns and stream_id of the last packet of that frame_id and role."""
        self._undone: dict[int, _Key] = {}
        self._settled_frames: dict[int, str] = {}
        self._done: list[tuple[int, str]] = []
        self._recent: deque[tuple[int, str]] = deque(maxlen=RECENT)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def received(self) -> int:
        """Every packet of the stream up to this sequence was taken by the chain."""
        mine = (p.sequence - 1 for p in self._waiting if p.stream_id == self.stream_id)
        return next(mine, self.taken)

    @property
    def undone(self) -> list[int]:
        """Sequences that have come and not settled."""
        return list(self._undone)

    def begin(self, stream_id: int) -> None:
        """Go on with this stream; nothing changes if it is the current one."""
        if stream_id != self.stream_id:
            self.stream_id, self.taken = stream_id, -1
            self._undone.clear()
            self._done.clear()
            self._recent.clear()

    def take(self, packet: Packet, *, damaged: bool = False) -> bool:
        """Take what has come; True if it is new (and, unless damaged, waits for the chain now)."""
        self.taken = max(self.taken, packet.sequence)
        key = (packet.frame_id, packet.role)
        if self._repeated(packet):
            self._repeat(packet.sequence, key)
            return False
        restarted = self._seen.pop(key, None) is not None
        self._seen[key] = (packet.pts_ns, packet.stream_id)
        _limit(self._seen)
        if restarted or (packet.role != "primary" and damaged):
            self._finish(packet.sequence, OUT)
        else:
            self._undone[packet.sequence] = key
        if not damaged:
            self._waiting.append(packet)
        self._limit_helpers()
        return True

    def head(self) -> Packet | None:
        """The packet whose turn it is."""
        return self._waiting[0] if self._waiting else None

    def consumed(self) -> None:
        """The chain has taken the head."""
        self._waiting.popleft()

    def settle(self, frame_id: int, status: str) -> None:
        """The ledger has settled a primary frame; side views and references up to it are of no more use."""
        self._settled_frames.pop(frame_id, None)
        self._settled_frames[frame_id] = status
        _limit(self._settled_frames)
        sequence = next((s for s, key in self._undone.items() if key == (frame_id, "primary")), -1)
        for other, (other_id, role) in list(self._undone.items()):
            if other == sequence:
                self._finish(other, status)
            elif role != "primary" and (other_id == frame_id or other < sequence):
                self._finish(other, OUT)

    def done(self) -> list[tuple[int, str]]:
        """What has settled since the last call."""
        done, self._done = self._done, []
        return done

    def recent(self) -> list[tuple[int, str]]:
        """The last that settled, to be told again after a reconnect."""
        self._done = []
        return list(self._recent)

    def _repeated(self, packet: Packet) -> bool:
        seen = self._seen.get((packet.frame_id, packet.role))
        if seen is not None:
            return seen[0] == packet.pts_ns or seen[1] == packet.stream_id
        written = self._written(packet.frame_id) if packet.role == "primary" else None
        return written is not None and written[0] == packet.pts_ns

    def _repeat(self, sequence: int, key: _Key) -> None:
        if sequence in self._undone:
            return
        status = self._status(key[0]) if key[1] == "primary" else OUT
        if status is None:
            self._undone[sequence] = key
        else:
            self._finish(sequence, status)

    def _status(self, frame_id: int) -> str | None:
        written = None if frame_id in self._settled_frames else self._written(frame_id)
        return written[1] if written else self._settled_frames.get(frame_id)

    def _finish(self, sequence: int, status: str) -> None:
        self._undone.pop(sequence, None)
        self._done.append((sequence, status))
        self._recent.append((sequence, status))

    def _limit_helpers(self) -> None:
        helpers = [s for s, (_, role) in self._undone.items() if role != "primary"]
        for sequence in helpers[: max(0, len(helpers) - MAX_HELPERS)]:
            self._finish(sequence, OUT)


def _limit(remembered: dict[Any, Any]) -> None:
    if len(remembered) > REMEMBERED:
        del remembered[next(iter(remembered))]


class Feed:
    """Rows of the ledger on their way to the other node, in numbered batches, one at a time until it is confirmed."""

    def __init__(self) -> None:
        self._rows: dict[int, Change] = {}
        self._batch: list[Change] = []
        self.number = 0
        """Of the last batch."""
        self._confirmed = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def free(self) -> bool:
        """Whether the last batch was confirmed."""
        return self._confirmed == self.number

    def add(self, changes: Iterable[Change]) -> None:
        """Rows in their newest state."""
        for change in changes:
            self._rows[change["frame_id"]] = change

    def batch(self) -> list[Change]:
        """The next rows, as batch `number`; none while one is under way."""
        if not self.free or not self._rows:
            return []
        self._batch = [self._rows.pop(i) for i in list(self._rows)[:MAX_ROWS]]
        self.number += 1
        return self._batch

    def confirm(self, number: int) -> None:
        """The other side has merged this batch."""
        if number == self.number:
            self._confirmed, self._batch = number, []

    def retry(self) -> None:
        """The connection is lost: what is not confirmed goes once more, unless there is something newer."""
        self._rows = {**{c["frame_id"]: c for c in self._batch}, **self._rows}
        self._batch, self._confirmed = [], self.number
