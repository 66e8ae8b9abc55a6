"""The decoder's end of the link as a state machine: messages in, messages out, no socket.

It serves one stream at a time. The encoder may go and come back on another connection (same stream), and another
encoder may take its place once it has been silent for a while (new stream); a second one beside it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.credit import Inbox
from pipeline.errors import LinkError, WireError
from pipeline.ledger import OUT, PENDING
from pipeline.sending import HEARTBEAT_NS, SECOND_NS, SILENCE_NS, STOP_PATIENCE_NS, WAIT_LOG_NS
from pipeline.stage import Context
from pipeline.types import Packet
from pipeline.wire import (
    FORMAT,
    HEADER_BYTES,
    Ack,
    Change,
    Control,
    DamagedPayloadError,
    Envelope,
    Eos,
    Error,
    Hello,
    Message,
    Stats,
    StreamInfo,
    parse,
)

__all__ = ["ReceivingEnd"]

STOP_GRACE_NS = 2 * SECOND_NS
"""How long a stopped decoder waits for a sign that the encoder was stopped too."""


@dataclass(slots=True)
class _Peer:
    """The encoder that was welcomed last."""

    identity: bytes
    stream_id: int
    window: int
    heard_ns: int
    introduced_ns: int
    """`sent_ns` of its last HELLO."""
    welcomed: bool = True
    spoken: bool = False
    """It has said more than HELLO."""
    stopping: bool = False


class ReceivingEnd:
    """Serves whoever introduces itself; the caller brings a socket and serialises the calls."""

    def __init__(self, context: Context, address: str) -> None:
        self._context, self._address, self._clock = context, address, context.clock
        self.inbox = Inbox(self._written)
        self.error: LinkError | None = None
        """Why this cannot go on."""
        self.ended = False
        """EOS has come: `inbox` gets nothing more."""
        self.gone = False
        """The encoder knows that all is written and has said good-bye."""
        self._peer: _Peer | None = None
        self._closed_for: str | None = None
        self._peer_failed = self._confirming = self._ack_due = False
        self._answers: list[tuple[bytes, Envelope]] = []
        self._rivals: dict[int, int] = {}
        self._batch = 0
        self._own_facts = frozenset(name for name, value in context.facts.items() if value is not None)
        self._wire_errors = 0
        self._log_due_ns = self._error_log_due_ns = 0
        self._stopped_ns: int | None = None

    # What the stage does.

    def consumed(self) -> None:
        """The chain has taken the head of the inbox: its credit goes back."""
        self.inbox.consumed()
        self._ack_due = True

    def settle(self, frame_id: int, status: str) -> None:
        """The ledger has settled a frame: its sender may forget it."""
        self.inbox.settle(frame_id, status)
        self._ack_due = True

    def confirm(self) -> None:
        """Everything is written and closed: tell the encoder."""
        self._confirming = True
        if self._peer:
            self._answer(self._peer.identity, self._ack())
            self._answer(self._peer.identity, Eos(confirmed=True))

    def fail(self, sentence: str) -> None:
        """Tell the encoder that this node has failed, unless that came from there."""
        if self._peer and not self._peer_failed:
            self._answer(self._peer.identity, Error(sentence[:2000]))

    def farewell(self, sentence: str) -> tuple[bytes, Envelope] | None:
        """Whom to tell that the link itself has failed, and how, for a caller that cannot go on."""
        peer = self._peer
        return None if peer is None else (peer.identity, self._envelope(Error(sentence[:2000]), peer.stream_id))

    def turn_away(self, sentence: str) -> None:
        """This node has failed before it could serve: whoever introduces itself gets that sentence."""
        self._closed_for = sentence[:2000]

    @property
    def abandoned(self) -> bool:
        """Whether the node was told to stop and it makes no sense to wait for the end of the stream."""
        now = self._clock.monotonic_ns()
        if not self._context.stop.is_set():
            return False
        self._stopped_ns = self._stopped_ns or now
        if self._peer is None:
            return True
        if self._peer.stopping:
            return now - max(self._peer.heard_ns, self._stopped_ns) > STOP_PATIENCE_NS
        return now - self._stopped_ns > STOP_GRACE_NS

    # What the connection does.

    def handle(self, identity: bytes, data: bytes) -> None:
        """Take in what came from one peer; what is no message of ours is counted and dropped."""
        known = self._peer is not None and self._peer.identity == identity and self._peer.welcomed
        try:
            message = parse(data)
            if not (known or (isinstance(message, Envelope) and isinstance(message.body, Hello))):
                self._answers.append((identity, self._envelope(Hello(FORMAT), message.stream_id)))
                raise WireError("a message from a peer that has not been welcomed")
            self._dispatch(identity, message)
        except DamagedPayloadError as error:
            self.refuse(str(error))
            if known:
                self._damaged(error.packet)
        except WireError as error:
            self.refuse(str(error))
            if known:
                self._greet_again()

    def refuse(self, why: str) -> None:
        """Count what is no message of ours; one line a second says how many."""
        self._context.metrics.wire_errors.inc()
        self._wire_errors += 1
        now = self._clock.monotonic_ns()
        if now >= self._error_log_due_ns:
            self._error_log_due_ns = now + SECOND_NS
            self._context.log.warning("refused at %s, %d so far: %s", self._address, self._wire_errors, why)

    def outgoing(self) -> list[tuple[bytes, Message]]:
        """Who is to be sent what now."""
        self._watch_time()
        if self._ack_due and self._peer and self._peer.welcomed:
            self._answer(self._peer.identity, self._ack())
        answers, self._answers = self._answers, []
        return list(answers)

    def _dispatch(self, identity: bytes, message: Message) -> None:
        if isinstance(message, Envelope) and isinstance(message.body, Hello):
            self._introduced(identity, message, message.body)
            return
        peer = self._peer
        if peer is None or message.stream_id != peer.stream_id:
            raise WireError(f"a message about stream {message.stream_id:016x}, which was not announced")
        peer.heard_ns = self._context.heard_ns = self._clock.monotonic_ns()
        peer.spoken = True
        if isinstance(message, Packet):
            self._frame(message)
            return
        match message.body:
            case StreamInfo(facts=facts):
                self._learn(facts)
            case Stats() as stats:
                peer.stopping = peer.stopping or stats.stopping
                self._merge(stats.number, stats.changes, stats.facts)
                self._answer(identity, self._ack(message.sent_ns))
            case Eos(confirmed=True) if self._confirming:
                self.gone = True
            case Eos() as eos:
                self._merge(eos.number, eos.changes, eos.facts)
                self.ended = self._ack_due = True
            case Error(sentence=sentence):
                self._peer_failed = True
                self.error = LinkError(f"the encoder node reported: {sentence}")
            case other:
                raise WireError(f"an encoder sends no {type(other).__name__} message")

    def _introduced(self, identity: bytes, envelope: Envelope, hello: Hello) -> None:
        stream_id = envelope.stream_id
        if self._given_up(identity, envelope):
            return
        if self._peer and self._peer.stream_id != stream_id and not self._replaces(identity, stream_id):
            return
        sentence = self._objection(hello)
        if sentence:
            self._answers.append((identity, self._envelope(Error(sentence), stream_id)))
            self.error, self._peer_failed = LinkError(sentence), True
            return
        new = self._peer is None or self._peer.stream_id != stream_id
        if new:
            self._context.log.info("an encoder has connected")
        elif self._peer and self._peer.identity != identity and self._peer.spoken:
            self._context.log.info("the encoder is back")
        self._peer = _Peer(identity, stream_id, hello.window, self._clock.monotonic_ns(), envelope.sent_ns)
        self._rivals.clear()
        self.inbox.begin(stream_id)
        if new:
            self._batch = 0
        welcome = Ack(
            received=self.inbox.received,
            done=self.inbox.recent(),
            stats=self._batch,
            taken=self.inbox.taken,
            undone=self.inbox.undone,
        )
        self._answer(identity, welcome)
        if self._confirming:
            self.confirm()

    def _given_up(self, identity: bytes, hello: Envelope) -> bool:
        """Whether this is an old HELLO of a connection that the encoder has left for the one that is served now.

        While a decoder starts, an encoder dials again every few seconds, and all that it has said is read together.
        """
        peer, now = self._peer, self._clock.monotonic_ns()
        if peer is None or peer.identity == identity or peer.stream_id != hello.stream_id:
            return False
        return hello.sent_ns < peer.introduced_ns and now - peer.heard_ns <= SILENCE_NS

    def _replaces(self, identity: bytes, stream_id: int) -> bool:
        """Whether another encoder may take the place: yes if the first is silent, no if it has spoken since."""
        peer, now = self._peer, self._clock.monotonic_ns()
        if peer is None or (now - peer.heard_ns > SILENCE_NS and not self.ended):
            return True
        if len(self._rivals) >= 16:
            self._rivals.clear()
        first = self._rivals.setdefault(stream_id, now)
        if peer.heard_ns >= first + HEARTBEAT_NS:
            sentence = f"{self._address} already serves another encoder; end that one or use another address"
            self._answers.append((identity, self._envelope(Error(sentence), stream_id)))
            self.refuse("a second encoder while one is connected")
        return False

    def _objection(self, hello: Hello) -> str | None:
        if self._closed_for is not None:
            return self._closed_for
        if hello.format != FORMAT:
            return (
                f"the encoder speaks format {hello.format} and the decoder format {FORMAT} of the link: "
                "install the same version of sidecast on both"
            )
        own, name = str(self._context.facts.get("model_id") or ""), self._context.facts.get("model")
        if own and hello.model_id and own != hello.model_id:
            return (
                f"the encoder has the weights {hello.model_id} ({hello.model[:100]}) and the decoder {own} ({name}): "
                "give both nodes the same weights file"
            )
        return None

    def _frame(self, packet: Packet) -> None:
        if self.ended or (self._peer and len(self.inbox) >= 2 * self._peer.window):
            raise WireError(f"frame {packet.frame_id} came without credit or behind the end")
        if self.abandoned:
            return  # an encoder that goes on would keep a stopped node at work for ever
        self._context.metrics.received_bytes.labels(packet.role).inc(HEADER_BYTES + len(packet.payload))
        self._context.metrics.clock_offset_seconds.set(packet.clock_offset_ns / 1e9)
        if not self.inbox.take(packet):
            self._ack_due = True
            return
        self._enter(packet)
        self._weigh(packet)
        if packet.role == "primary":
            self._context.ledger.note(packet.frame_id, arrived_s=self._clock.monotonic_ns() / 1e9)

    def _damaged(self, packet: Packet) -> None:
        """The header is sound, so it is known which frame is lost."""
        if self._peer is None or packet.stream_id != self._peer.stream_id:
            return
        if self.inbox.take(packet, damaged=True) and packet.role == "primary":
            self._context.ledger.drop(packet.frame_id, "corrupt", packet.pts_ns)
        self._ack_due = True

    def _enter(self, packet: Packet) -> None:
        if packet.role == "primary":
            self._context.ledger.frame_in(packet.frame_id, packet.pts_ns)

    def _written(self, frame_id: int) -> tuple[int, str] | None:
        """What came of a frame that was here; the ledger also has those of which the encoder has only told."""
        row = self._context.ledger.row(frame_id)
        if row is None or row.status == PENDING or not ("arrived_s" in row.values or row.status == "corrupt"):
            return None
        return row.pts_ns, row.status

    def _weigh(self, packet: Packet) -> None:
        """The encoder tells the same in STATS, but later."""
        if packet.role == "primary" and (pixels := packet.width * packet.height):
            size = len(packet.payload)
            self._context.ledger.note(packet.frame_id, payload_bytes=size, bpp=8 * size / pixels)

    def _merge(self, number: int, changes: list[Change], facts: dict[str, Any]) -> None:
        """What an earlier decoder process has written is no matter of this node's ledger."""
        ledger = self._context.ledger
        ledger.merge(dict(c) for c in changes if c["status"] != OUT or ledger.status(c["frame_id"]) is not None)
        self._batch = max(self._batch, number)
        self._learn(facts)

    def _learn(self, facts: dict[str, Any]) -> None:
        for name, value in facts.items():
            if name == "device":
                self._context.facts["encode_device"] = value
            elif name not in self._own_facts and name != "complete":
                self._context.facts[name] = value

    def _greet_again(self) -> None:
        if self._peer:
            self._peer.welcomed = False
            self._answer(self._peer.identity, Hello(FORMAT))

    def _ack(self, echo_ns: int | None = None) -> Ack:
        self._ack_due = False
        now = None if echo_ns is None else self._clock.wall_ns()
        return Ack(self.inbox.received, self.inbox.done(), self._batch, echo_ns, now)

    def _answer(self, identity: bytes, body: Control) -> None:
        self._answers.append((identity, self._envelope(body, self._peer.stream_id if self._peer else 0)))

    def _envelope(self, body: Control, stream_id: int) -> Envelope:
        return Envelope(body, stream_id, self._clock.wall_ns())

    def _watch_time(self) -> None:
        now = self._clock.monotonic_ns()
        up = self._peer is not None and now - self._peer.heard_ns <= SILENCE_NS
        self._context.metrics.link_up.set(up)
        if up or self.ended or self.error:
            self._log_due_ns = now + WAIT_LOG_NS
        elif now >= self._log_due_ns:
            self._log_due_ns = now + WAIT_LOG_NS
            self._context.log.info("waiting for the encoder at %s", self._address)
