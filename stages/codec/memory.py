"""Freed memory stays with the process.

A network frees and asks for the same megabytes for every picture. glibc hands them back to the system in between, which
then clears them page by page: a fifth of the time of decoding.
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache

__all__ = ["keep_freed_memory"]

# From malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGEST = 32 << 20
"""Bytes: the most that glibc accepts for M_MMAP_THRESHOLD; larger blocks still go back at once."""


@cache
def keep_freed_memory() -> None:
    """Once per process; without effect where the C library isn't glibc. Resident memory stays at its peak."""
    if platform.libc_ver()[0] != "glibc":
        return
    set_option = ctypes.CDLL(None).mallopt
    set_option(M_TRIM_THRESHOLD, 1 << 30)
    set_option(M_MMAP_THRESHOLD, LARGEST)
    set_option(M_ARENA_MAX, 1)  # the other arenas, one per thread, would go on handing theirs back
