"""torch's threads, for the one thread of a node that computes.

OpenMP keeps a team for every thread that ever computed in parallel. With more of them than cores, teams sleep while
they wait instead of spinning, and a codec takes twice as long. So whoever loads a model does it alone, and only the
thread of the stage has a team.
"""

from __future__ import annotations

import threading

import torch

__all__ = ["Cores"]


class Cores:
    """So many cores, to be claimed by the thread that computes."""

    def __init__(self, count: int) -> None:
        self._count, self._owner = max(1, count), 0
        torch.set_num_threads(1)

    def claim(self) -> None:
        """By the calling thread, ahead of every computation."""
        if self._owner != threading.get_ident():
            self._owner = threading.get_ident()
            torch.set_num_threads(self._count)
