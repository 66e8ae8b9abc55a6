"""The cores of a node, shared out over the pictures that a stage works on at the same time.

Two pictures with a core each take less time than one after the other with both: threads that share a picture wait for
each other some 400 times. Where there are more cores than pictures, those of a picture get a share.

OpenMP keeps a team for every thread that ever computed in parallel. With more of them than cores, teams sleep while
they wait instead of spinning, and a codec takes twice as long. So whoever loads a model does it alone, and only the
threads that work on pictures have teams, if any.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["Cores", "Room"]

MOST_AT_ONCE = 4
"""Pictures: more of them would come out too late to be called live."""


class Cores:
    """So many cores, to be claimed by the threads that compute."""

    def __init__(self, count: int) -> None:
        self.at_once = min(max(1, count), MOST_AT_ONCE)
        """On how many pictures to work at the same time."""
        self._each = max(1, count) // self.at_once
        self._claimed = threading.local()
        torch.set_num_threads(1)

    def claim(self) -> None:
        """A picture's share for the calling thread; to be called ahead of every computation."""
        if not getattr(self._claimed, "done", False):
            self._claimed.done = True
            torch.set_num_threads(self._each)


class Room:
    """So many pixels may be worked on at the same time: several pictures need no more memory than the largest one."""

    def __init__(self, pixels: int) -> None:
        self._pixels, self._taken = pixels, 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait for room, and take it meanwhile. A picture that is larger than all of it has it alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + pixels <= self._pixels)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()
