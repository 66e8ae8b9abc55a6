"""The thread that serves a ZeroMQ socket while stages work: a library of `send` and `receive`."""

from __future__ import annotations

import threading
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.config.addresses import link_endpoint
from pipeline.stage import Context, Stage
from pipeline.wakeup import Wakeup

if TYPE_CHECKING:
    import zmq

__all__ = ["LINGER_MS", "POLL_MS", "LinkThread"]

POLL_MS = 100
LINGER_MS = 1000
INSECURE_LOG_NS = 60_000_000_000


@dataclass(kw_only=True)
class LinkThread(Stage):
    """One end of the link: what its thread and the stage's share, under the lock `_changed`."""

    _context: Context = field(init=False, repr=False)
    _changed: threading.Condition = field(init=False, repr=False)
    _wakeup: Wakeup = field(init=False, repr=False)
    _zmq: zmq.Context[zmq.Socket[bytes]] = field(init=False, repr=False)
    _socket: zmq.Socket[bytes] = field(init=False, repr=False)
    _thread: threading.Thread = field(init=False, repr=False)
    _closing: bool = field(init=False, repr=False, default=False)
    _warn_due_ns: int = field(init=False, repr=False, default=0)

    def _start_thread(self, name: str) -> None:
        """From here on the socket belongs to the thread."""
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @abstractmethod
    def _turn(self) -> None:
        """Take in what has come, give out what is to go."""

    @abstractmethod
    def _warn(self) -> None:
        """Say from time to time that nothing is encrypted, where others can listen."""

    @abstractmethod
    def _say_farewell(self, error: Exception) -> None:
        """Tell the other side that this end has broken down."""

    def _serve(self) -> None:
        """Serve until `close`. An error goes on to the runner, after a word to the other side, and ends the node."""
        try:
            while not self._closing:
                self._wait()
                self._turn()
                self._warn()
            self._turn()
        except Exception as error:
            self._say_farewell(error)
            raise
        finally:
            self._socket.close(linger=LINGER_MS)

    def _wait(self) -> None:
        import zmq

        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wakeup.fileno(), zmq.POLLIN)
        poller.poll(POLL_MS)
        self._wakeup.clear()

    def _warn_insecure(self, address: str, sentence: str) -> None:
        """Once a minute, where the address is not of this machine alone."""
        end, now = link_endpoint(address), self._context.clock.monotonic_ns()
        if end and not end.loopback and now >= self._warn_due_ns:
            self._warn_due_ns = now + INSECURE_LOG_NS
            self._context.log.warning(sentence, address)
