"""Hand packets to the decoder's node; see `pipeline.wire` for the messages and `pipeline.sending` for the rules."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.config.addresses import link_endpoint
from pipeline.errors import LinkError, WireError
from pipeline.latency import Cause
from pipeline.sending import SendingEnd
from pipeline.stage import Context
from pipeline.types import Item, Packet
from pipeline.wakeup import Wakeup
from pipeline.wire import MAX_MESSAGE, parse, serialize
from stages.link_thread import LINGER_MS, LinkThread

if TYPE_CHECKING:
    import zmq

__all__ = ["Send"]

WINDOW = {"lossless": 8, "live": 2}


@dataclass(kw_only=True)
class Send(LinkThread):
    """Sends packets to `receive` of another node; waits while that has no room for more."""

    settles: ClassVar[bool] = False
    cause: ClassVar[Cause | None] = "network"

    connect: Annotated[str, Field(description="where the decoder's `receive` listens, such as tcp://127.0.0.1:5555")]
    mode: Annotated[
        Literal["lossless", "live"],
        Field(description="lossless: every packet arrives; live: after a reconnect old ones are dropped as `stale`"),
    ] = "lossless"
    max_age_ms: Annotated[
        float,
        Field(
            gt=0,
            description="live: how old a packet may be at a reconnect, ms; only so many are let out that the decoder "
            "gets done in a quarter of it",
        ),
    ] = 1000.0
    budget_kbps: Annotated[
        float | None,
        Field(gt=0, description="what the stream should cost at most, kbit/s: shown and alerted on, never enforced"),
    ] = None
    insecure: Annotated[
        bool, Field(description="allow an address that other machines can reach, without encryption")
    ] = False

    _end: SendingEnd = field(init=False, repr=False)

    def open(self, context: Context) -> None:
        """Start to look for the decoder; it need not be there yet."""
        import zmq

        self._check_address()
        self._context = context
        self._state_budget()
        max_age_ns = int(self.max_age_ms * 1e6) if self.mode == "live" else None
        self._end = SendingEnd(context, self.connect, WINDOW[self.mode], max_age_ns)
        self._changed, self._wakeup = threading.Condition(), Wakeup()
        self._zmq = zmq.Context()
        try:
            self._socket = self._dial()
        except zmq.ZMQError as error:
            self._zmq.destroy(linger=0)
            self._wakeup.close()
            raise LinkError(f"cannot connect to {self.connect}: {error.strerror}; expected tcp://HOST:PORT") from None
        self._start_thread("send-link")

    def process(self, item: Item) -> Iterator[Item]:
        """Take a packet as soon as there is room for it; LinkError if the decoder's node has failed."""
        if not isinstance(item, Packet):
            yield item
            return
        with self._changed:
            if self._wait_until(lambda: self._end.room_for(item)):
                self._end.offer(item)
        self._wakeup.ring()

    def flush(self) -> Iterator[Item]:
        """Wait until the decoder has written everything and closed its files."""
        with self._changed:
            self._end.finish()
            self._wakeup.ring()
            self._wait_until(lambda: self._end.over)
        yield from ()

    def close(self) -> None:
        """Tell the decoder if this node has failed, and hang up."""
        error = self._context.error
        with self._changed:
            self._end.fail(str(error) if error else "the encoder node was stopped")
            self._closing = True
        self._wakeup.ring()
        self._thread.join()
        self._zmq.destroy(linger=LINGER_MS)
        self._wakeup.close()

    def _wait_until(self, reached: Callable[[], bool]) -> bool:
        """Wait, holding the lock, until `reached`; False if the node has failed elsewhere."""
        while not reached():
            if self._end.error:
                raise self._end.error
            if self._context.error is not None:
                return False
            if not self._thread.is_alive():
                raise LinkError(f"the link to {self.connect} has broken down")
            if self._end.impatient:
                raise LinkError(f"stopped while the decoder at {self.connect} did not answer")
            self._changed.wait(0.2)
        if self._end.error:
            raise self._end.error
        return True

    def _state_budget(self) -> None:
        if self.budget_kbps is not None:
            self._context.facts["budget_kbps"] = self.budget_kbps
            self._context.metrics.budget_bytes_per_second.set(self.budget_kbps * 1000 / 8)

    def _check_address(self) -> None:
        end = link_endpoint(self.connect)
        if end is None:
            raise LinkError(f"send: {self.connect!r} is no address, expected one such as tcp://127.0.0.1:5555")
        if not (end.loopback or self.insecure):
            raise LinkError(
                f"send: {self.connect} is another machine and nothing is encrypted; "
                "allow it with `insecure: true` (of the stage) or --insecure (of a command)"
            )

    # Everything below runs in the link's own thread, but for the first `_dial`.

    def _dial(self) -> zmq.Socket[bytes]:
        import zmq

        dealer = self._zmq.socket(zmq.DEALER)
        dealer.set(zmq.LINGER, 0)
        # Not IMMEDIATE: it throws away what the decoder has said, its ERROR for instance, when it hangs up behind it.
        dealer.set(zmq.MAXMSGSIZE, MAX_MESSAGE)
        dealer.set(zmq.RECONNECT_IVL, 100)
        dealer.set(zmq.RECONNECT_IVL_MAX, 1000)
        try:
            dealer.connect(self.connect)
        except zmq.ZMQError:
            dealer.close()
            raise
        return dealer

    def _say_farewell(self, error: Exception) -> None:
        import zmq

        with contextlib.suppress(zmq.ZMQError):
            self._socket.send(serialize(self._end.farewell(f"its link broke down: {error}")), zmq.NOBLOCK)

    def _turn(self) -> None:
        with self._changed:
            self._take_in()
            if self._end.reconnect:
                self._socket.close(linger=0)
                self._socket = self._dial()
                self._end.reconnected()
            self._give_out()
            self._changed.notify_all()

    def _take_in(self) -> None:
        import zmq

        while True:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                if len(parts) != 1:
                    raise WireError(f"expected a message of one part, found {len(parts)}")
                self._end.handle(parse(parts[0]))
            except WireError as error:
                self._context.metrics.wire_errors.inc()
                self._context.log.warning("refused from %s: %s", self.connect, error)

    def _give_out(self) -> None:
        import zmq

        for message in self._end.outgoing():
            data = serialize(message)
            try:
                self._socket.send(data, zmq.NOBLOCK)
            except zmq.Again:
                if self._end.up:
                    self._end.lost()
                return
            if isinstance(message, Packet):
                self._end.handed_over(message, len(data))

    def _warn(self) -> None:
        self._warn_insecure(self.connect, "insecure: frames go to %s unencrypted, to whoever answers there")
