"""Packets from the encoder's node; see `pipeline.wire` for the messages and `pipeline.receiving` for the rules."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from pipeline.config.addresses import link_endpoint
from pipeline.errors import LinkError, SidecastError
from pipeline.latency import Cause
from pipeline.ports import is_taken
from pipeline.receiving import ReceivingEnd
from pipeline.stage import Context, Source
from pipeline.types import Item, Packet
from pipeline.wakeup import Wakeup
from pipeline.wire import MAX_MESSAGE, serialize
from stages.link_thread import LINGER_MS, POLL_MS, LinkThread

if TYPE_CHECKING:
    import zmq

__all__ = ["Receive"]

GOODBYE_NS = 2_000_000_000
"""How long the end waits for the encoder to have heard that all is written."""
TURN_AWAY_NS = 1_200_000_000
"""How long a node that could not start answers: an encoder that waits tries to connect at least once a second."""
TURN_MESSAGES = 64
"""Messages taken before the answers go out, so that a flood cannot keep the acknowledgements back."""


@dataclass(kw_only=True)
class Receive(LinkThread, Source):
    """Listens for one `send` at a time and yields its packets in order, each once."""

    cause: ClassVar[Cause | None] = "network"

    bind: Annotated[str, Field(description="where to listen, such as tcp://127.0.0.1:5555")]
    insecure: Annotated[
        bool, Field(description="allow an address that other machines can reach, without encryption")
    ] = False

    _end: ReceivingEnd = field(init=False, repr=False)
    _reading: bool = field(init=False, repr=False, default=False)

    def open(self, context: Context) -> None:
        """Take the address; nobody is answered before `read`, when the weights of this node are known."""
        import zmq

        self._check_address()
        self._context = context
        self._changed, self._wakeup = threading.Condition(), Wakeup()
        self._zmq = zmq.Context()
        self._socket = self._zmq.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE)
        self._socket.set(zmq.RCVHWM, TURN_MESSAGES)
        try:
            self._socket.bind(self.bind)
        except zmq.ZMQError as error:
            self._zmq.destroy(linger=0)
            self._wakeup.close()
            raise LinkError(self._cannot_listen(error)) from None

    def require_free_port(self) -> None:
        """Raise LinkError if another process listens at `bind`; loads nothing, for whoever starts several nodes."""
        end = link_endpoint(self.bind)
        if end and is_taken(end):
            raise LinkError(self._in_use())

    @property
    def address(self) -> str:
        """Where this listens; differs from `bind` if that leaves the port open."""
        import zmq

        return str(self._socket.get_string(zmq.LAST_ENDPOINT)).rstrip("\0")

    def read(self) -> Iterator[Item]:
        """Yield packets until the encoder's EOS, or until it makes no sense to wait for it after a stop."""
        self._context.facts["complete"] = False
        self._end = ReceivingEnd(self._context, self.bind)
        self._context.ledger.watch(self._settled)
        self._start_thread("receive-link")
        self._reading = True
        while (packet := self._next()) is not None:
            yield packet
            with self._changed:
                self._end.consumed()
            self._wakeup.ring()
        self._context.facts["complete"] = self._end.ended

    def close(self) -> None:
        """Tell the encoder how this node has ended, now that every file is closed, and hang up."""
        if self._reading:
            self._part()
            self._thread.join()
        else:
            self._turn_away()
            self._socket.close(linger=LINGER_MS)
        self._zmq.destroy(linger=LINGER_MS)
        self._wakeup.close()

    def _next(self) -> Packet | None:
        with self._changed:
            while True:
                if self._end.error:
                    raise self._end.error
                if (packet := self._end.inbox.head()) is not None:
                    return packet
                if self._end.ended or self._end.abandoned or self._context.error is not None:
                    return None
                if not self._thread.is_alive():
                    raise LinkError(f"the link at {self.bind} has broken down")
                self._changed.wait(0.2)

    def _settled(self, frame_id: int, status: str) -> None:
        with self._changed:
            self._end.settle(frame_id, status)
        if not self._closing:
            self._wakeup.ring()

    def _part(self) -> None:
        error = self._context.error
        with self._changed:
            if error is not None:
                self._end.fail(str(error))
            elif self._end.ended:
                self._end.confirm()
            else:
                self._end.fail("the decoder node was stopped")
            self._wakeup.ring()
            if error is None and self._end.ended:
                self._await_goodbye()
            self._closing = True
        self._wakeup.ring()

    def _turn_away(self) -> None:
        """If this node has failed before it could listen, tell an encoder that is waiting for it."""
        error, clock = self._context.error, self._context.clock
        if not isinstance(error, SidecastError):
            return
        self._end = ReceivingEnd(self._context, self.bind)
        self._end.turn_away(str(error))
        until = clock.monotonic_ns() + TURN_AWAY_NS
        while not self._end.error and clock.monotonic_ns() < until:
            self._socket.poll(POLL_MS)
            self._turn()

    def _await_goodbye(self) -> None:
        clock = self._context.clock
        until = clock.monotonic_ns() + GOODBYE_NS
        while not self._end.gone and self._thread.is_alive() and clock.monotonic_ns() < until:
            self._changed.wait(0.2)

    def _check_address(self) -> None:
        end = link_endpoint(self.bind)
        if end is None:
            raise LinkError(f"receive: {self.bind!r} is no address, expected one such as tcp://127.0.0.1:5555")
        if not (end.loopback or self.insecure):
            raise LinkError(
                f"receive: {self.bind} can be reached from other machines and nothing is encrypted; "
                "allow it with insecure: true"
            )

    def _cannot_listen(self, error: zmq.ZMQError) -> str:
        import zmq

        if error.errno == zmq.EADDRINUSE:
            return self._in_use()
        return f"cannot listen at {self.bind}: {error.strerror}; expected an address of this machine"

    def _in_use(self) -> str:
        return (
            f"cannot listen at {self.bind}: the port is in use; "
            "end the process that has it, or choose another port for both nodes"
        )

    # Everything below runs in the link's own thread.

    def _say_farewell(self, error: Exception) -> None:
        import zmq

        farewell = self._end.farewell(f"its link broke down: {error}")
        if farewell:
            identity, message = farewell
            with contextlib.suppress(zmq.ZMQError):
                self._socket.send_multipart([identity, serialize(message)], zmq.NOBLOCK)

    def _turn(self) -> None:
        with self._changed:
            self._take_in()
            for identity, message in self._end.outgoing():
                # A ROUTER drops what is meant for a peer that is gone; it will introduce itself again.
                self._socket.send_multipart([identity, serialize(message)])
            self._changed.notify_all()

    def _take_in(self) -> None:
        import zmq

        for _ in range(TURN_MESSAGES):
            try:
                identity, *parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(parts) == 1:
                self._end.handle(identity, parts[0])
            else:
                self._end.refuse(f"expected a message of one part, found {len(parts)}")

    def _warn(self) -> None:
        self._warn_insecure(self.bind, "insecure: whoever reaches %s can send frames, unencrypted")
