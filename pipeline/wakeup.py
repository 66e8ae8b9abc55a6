"""A bell that one thread can hear while it polls sockets."""

from __future__ import annotations

import contextlib
import socket

__all__ = ["Wakeup"]


class Wakeup:
    """`ring` from any thread makes `fileno` readable until `clear`."""

    def __init__(self) -> None:
        self._hears, self._rings = socket.socketpair()
        self._hears.setblocking(False)
        self._rings.setblocking(False)

    def fileno(self) -> int:
        """What to poll for reading."""
        return self._hears.fileno()

    def ring(self) -> None:
        """Wake the poller; a bell that rings already is enough."""
        with contextlib.suppress(BlockingIOError):
            self._rings.send(b"!")

    def clear(self) -> None:
        """Go silent."""
        with contextlib.suppress(BlockingIOError):
            while self._hears.recv(4096):
                pass

    def close(self) -> None:
        """Let go of both ends."""
        self._hears.close()
        self._rings.close()
