"""The encoder's end of the link as a state machine: messages in, messages out, no socket.

greeting --ACK with `undone`--> up --silence, HELLO, failed send--> greeting (on a new connection)
   |                            |
   +--------- ERROR ------------+--EOS confirmed--> over
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from pipeline.backlog import Backlog
from pipeline.clock import Clock
from pipeline.credit import Feed, Outbox, Settled
from pipeline.errors import LinkError, WireError
from pipeline.ledger import OUT
from pipeline.offset import ClockOffset
from pipeline.stage import Context
from pipeline.types import Packet
from pipeline.wire import FORMAT, Ack, Change, Control, Envelope, Eos, Error, Hello, Message, Stats, StreamInfo, check

__all__ = ["HEARTBEAT_NS", "SILENCE_NS", "SendingEnd"]

SECOND_NS = 1_000_000_000
HELLO_EVERY_NS = SECOND_NS // 2
HEARTBEAT_NS = SECOND_NS
SILENCE_NS = 3 * SECOND_NS
"""Without any message for so long the other side is taken for gone."""
STOP_PATIENCE_NS = 5 * SECOND_NS
WAIT_LOG_NS = 5 * SECOND_NS
MOST_CHANGES = 4096
"""Rows of the ledger taken at once to be told; what is left stays there, on its disk if there is more and more."""


class SendingEnd:
    """Speaks to one decoder for one stream; the caller brings a connection and serialises the calls."""

    def __init__(self, context: Context, address: str, window: int, max_age_ns: int | None = None) -> None:
        self._context, self._address = context, address
        self._clock: Clock = context.clock
        self.stream_id = secrets.randbits(64)
        self.outbox = Outbox(window, max_age_ns)
        self._backlog = None if max_age_ns is None else Backlog(max_age_ns)
        self._feed = Feed()
        self._offset = ClockOffset()
        self.error: LinkError | None = None
        """Why this cannot go on."""
        self.up = False
        """A decoder has welcomed this stream and answers."""
        self.over = False
        """The decoder has confirmed the end."""
        self.reconnect = False
        """The caller should open a new connection, then call `reconnected`."""
        self._ever_up = self._ever_ended = self._finishing = self._peer_failed = False
        self._last_words: list[Control] = []
        now = self._clock.monotonic_ns()
        self._heard_ns = self._connected_ns = now
        self._log_due_ns = now + WAIT_LOG_NS
        self._stopped_ns: int | None = None
        self._bytes_by_role: dict[str, int] = {}
        self._hello_due_ns = self._stats_due_ns = 0
        self._info_sent = self._eos_sent = self._stop_told = False
        self._show()

    # What the stage does.

    def room_for(self, packet: Packet) -> bool:
        """Whether `offer` may be called. What belongs to a frame that was let out follows it in any case."""
        waits = packet.role == "primary" and self._backlog is not None and self._backlog.full
        return self.outbox.room and not waits

    def offer(self, packet: Packet) -> None:
        """Send this packet as soon as there is credit; WireError if the format cannot carry it."""
        check(packet)
        self.outbox.add(packet, self.stream_id)
        if self._backlog and packet.role == "primary":
            self._backlog.add(packet.frame_id, self._clock.monotonic_ns())

    def finish(self) -> None:
        """No packet will follow: EOS goes out behind the last one."""
        self._finishing = True

    def fail(self, sentence: str) -> None:
        """Tell the decoder that this node has failed, unless that came from there or all is over."""
        if not (self.over or self._peer_failed):
            self._last_words.append(Error(sentence[:2000]))

    def farewell(self, sentence: str) -> Envelope:
        """The message that says that the link itself has failed, for a caller that cannot go on."""
        return self._envelope(Error(sentence[:2000]))

    # What the connection does.

    def handle(self, message: Message) -> None:
        """Take in a message from the decoder; WireError if it has no business here."""
        if isinstance(message, Packet):
            raise WireError("a decoder sends no frames")
        if message.stream_id not in (0, self.stream_id):
            raise WireError(f"a message about stream {message.stream_id:016x}, which is not this one")
        self._heard_ns = self._clock.monotonic_ns()
        match message.body:
            case Ack() as ack:
                self._acknowledge(ack, message.sent_ns)
            case Hello():
                self.lost()
            case Eos(confirmed=True) if self._ever_ended:
                self._confirm()
            case Error(sentence=sentence):
                self._failed(sentence)
            case other:
                raise WireError(f"a decoder sends no {type(other).__name__} message now")

    def outgoing(self) -> Iterator[Message]:
        """The messages to be sent now, made as they are taken."""
        now = self._clock.monotonic_ns()
        self._watch_time(now)
        while self._last_words:
            yield self._envelope(self._last_words.pop(0))
        if self.error or self.over:
            return
        if not self.up:
            if now >= self._hello_due_ns:
                self._hello_due_ns = now + HELLO_EVERY_NS
                yield self._envelope(self._hello())
            return
        if not self._info_sent:
            self._info_sent = True
            yield self._envelope(StreamInfo(self._facts()))
        yield from self._frames()
        yield from self._reports(now)

    def handed_over(self, packet: Packet, size: int) -> None:
        """Count a FRAME message that the socket has accepted."""
        total = self.outbox.count_bytes(packet.sequence, size)
        metrics = self._context.metrics
        metrics.wire_bytes.labels(packet.role).inc(size)
        if packet.role == "primary":
            metrics.packet_age_seconds.observe(max(0, self._clock.wall_ns() - packet.taken_ns) / SECOND_NS)
            self._context.ledger.note(packet.frame_id, wire_bytes=total)
        else:
            self._bytes_by_role[packet.role] = self._bytes_by_role.get(packet.role, 0) + size
            self._context.facts[f"{packet.role}_bytes_on_wire"] = self._bytes_by_role[packet.role]

    def lost(self) -> None:
        """The connection is of no more use."""
        if self.up:
            self._context.log.warning("lost the decoder at %s, waiting for its return", self._address)
        self.reconnect = True
        self.up = False
        self.outbox.disconnected()
        self._feed.retry()
        self._show()

    def reconnected(self) -> None:
        """There is a new connection: introduce this stream to whoever is there."""
        self.reconnect = False
        self._connected_ns = self._clock.monotonic_ns()
        self._reset()

    @property
    def impatient(self) -> bool:
        """Whether the node was told to stop and nothing has been heard from the decoder for a while since."""
        if self._stopped_ns is None:
            return False
        return self._clock.monotonic_ns() - max(self._stopped_ns, self._heard_ns) > STOP_PATIENCE_NS

    def _reset(self) -> None:
        self._hello_due_ns = self._stats_due_ns = 0
        self._info_sent = self._eos_sent = self._stop_told = False

    def _hello(self) -> Hello:
        facts = self._context.facts
        return Hello(FORMAT, str(facts.get("model_id") or ""), str(facts.get("model") or ""), self.outbox.window)

    def _frames(self) -> Iterator[Packet]:
        """The packets for which there is credit. None before the clocks were compared: each tells by how much they
        differ.
        """
        while self._offset.known and (item := self.outbox.next()) is not None:
            packet, again = item
            if again:
                self._context.metrics.resent.inc()
            yield replace(packet, sent_ns=self._clock.wall_ns(), clock_offset_ns=self._offset.ns)
        self._show()

    def _reports(self, now: int) -> Iterator[Envelope]:
        """Heartbeats, the ledger's changes, and EOS when all is on its way."""
        stopping = self._context.stop.is_set()
        last = self._finishing and self.outbox.all_sent and not self._eos_sent
        due = now >= self._stats_due_ns or (stopping and not self._stop_told)
        if not (last or due):
            return
        all_told = False
        if self._feed.free and not self._feed and not self._eos_sent:
            changes = cast(list[Change], self._context.ledger.changes(MOST_CHANGES))
            all_told = len(changes) < MOST_CHANGES
            self._feed.add(changes)
        batch = self._feed.batch()
        if last and not self._feed and all_told:
            self._eos_sent = self._ever_ended = True
            yield self._envelope(Eos(self._feed.number, batch, self._facts()))
        elif batch or due:
            self._stop_told = stopping
            self._stats_due_ns = now + HEARTBEAT_NS
            yield self._envelope(Stats(self._feed.number, batch, self._facts(), stopping))

    def _acknowledge(self, ack: Ack, answered_ns: int) -> None:
        if ack.taken is not None and not self.up:
            self._welcomed(ack)
        elif self.up:
            self._settle(self.outbox.acknowledge(ack))
            self._feed.confirm(ack.stats)
            if self._feed and self._feed.free:
                self._stats_due_ns = 0
            if ack.echo_ns is not None and ack.echo_received_ns is not None:
                stamps = (ack.echo_ns, ack.echo_received_ns, answered_ns, self._clock.wall_ns())
                self._offset.add(*stamps, self._clock.monotonic_ns())
                self._context.metrics.clock_offset_seconds.set(self._offset.ns / 1e9)
        self._show()

    def _welcomed(self, ack: Ack) -> None:
        self.up = True
        self._reset()
        self._settle(self.outbox.connected(ack, self._clock.wall_ns()))
        if self._backlog:
            self._backlog.forget_pace()
        if self._ever_up:
            self._context.metrics.reconnects.inc()
            self._context.log.info("the decoder at %s is back, %d packets go again", self._address, len(self.outbox))
        else:
            self._context.log.info("connected to the decoder at %s", self._address)
        self._ever_up = True

    def _settle(self, settled: list[Settled]) -> None:
        for packet, status in settled:
            if packet.role != "primary":
                continue
            if self._backlog:
                self._backlog.settle(packet.frame_id, self._clock.monotonic_ns())
            if status == OUT:
                self._context.ledger.frame_out(packet.frame_id)
            else:
                self._context.ledger.drop(packet.frame_id, status)

    def _confirm(self) -> None:
        self.over = True
        self._last_words.append(Eos(confirmed=True))

    def _failed(self, sentence: str) -> None:
        if self.over:
            return
        self._peer_failed = True
        self.error = LinkError(f"the decoder node reported: {sentence}")
        self._context.stop.set()

    def _watch_time(self, now: int) -> None:
        if self._context.stop.is_set() and self._stopped_ns is None:
            self._stopped_ns = now
        if now - max(self._heard_ns, self._connected_ns) > SILENCE_NS and not self.reconnect:
            self.lost()
        if self.up:
            self._log_due_ns = now + WAIT_LOG_NS
        elif now >= self._log_due_ns and not (self.over or self.error):
            self._log_due_ns = now + WAIT_LOG_NS
            self._context.log.info("waiting for the decoder at %s", self._address)

    def _show(self) -> None:
        self._context.metrics.credits.set(self.outbox.credits if self.up else 0)
        self._context.metrics.link_up.set(self.up)

    def _facts(self) -> dict[str, Any]:
        return dict(self._context.facts)

    def _envelope(self, body: Control) -> Envelope:
        return Envelope(body, self.stream_id, self._clock.wall_ns())
