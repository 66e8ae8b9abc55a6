"""Ctrl-C and SIGTERM: the first one drains, a second one aborts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["CLOSING", "SIGNALS", "interruptible"]

CLOSING = "closing "
"""How the names of threads start that close a stage after an error; one that is left at the end hangs."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible(drain: Callable[[], None]) -> Iterator[None]:
    """Within the block the first signal calls `drain`, any further one raises KeyboardInterrupt in the main thread.

    Outside the main thread, which alone can handle signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    drained = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal drained
        if drained:
            raise KeyboardInterrupt("the run was aborted by the user")
        drained = True
        # In a thread of its own, because what it locks may be locked by the code that this signal has interrupted.
        threading.Thread(target=drain, name="drain", daemon=True).start()

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
