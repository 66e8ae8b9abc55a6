"""Several threads work on items at the same time; what follows from the items goes on in their order.

take: one thread at a time, each item gets a number    work: together    wait(number): in the order of the numbers
"""

from __future__ import annotations

import threading

from pipeline.channel import Aborted

__all__ = ["Turns"]


class Turns:
    """Whose turn it is, of the threads of one stage."""

    def __init__(self) -> None:
        self.taking = threading.Lock()
        """Held by the thread that takes an item and calls `next_number`."""
        self._changed = threading.Condition()
        self._given = 0
        self._now = 0
        self._aborted = False

    def next_number(self) -> int:
        """The number of the item that was just taken."""
        self._given += 1
        return self._given - 1

    def wait(self, number: int) -> bool:
        """Return once all items before this one have gone on: whether that had to be waited for. Raises Aborted."""
        with self._changed:
            early = number != self._now
            self._changed.wait_for(lambda: self._aborted or number == self._now)
            if self._aborted:
                raise Aborted
            return early

    def end(self) -> None:
        """The item whose turn it is has gone on."""
        with self._changed:
            self._now += 1
            self._changed.notify_all()

    def abort(self) -> None:
        """End every wait, now and later, with Aborted."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()
