"""A window in a process of its own: `python -m stages.sinks.window TITLE`, pictures come in on standard input.

A process, because a toolkit wants the first thread of one, and because Qt ends the whole process when its screen goes.
Each picture is a header (width and height, little-endian u32) and its rows in BGR. `ready` is printed when the window
stands. q or Escape, or closing the window, ends it with exit code 0; so does the end of the input.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import threading
from typing import Any

import numpy as np

__all__ = ["HEADER", "READY"]

HEADER = struct.Struct("<II")
READY = b"ready\n"
POLL_MS = 20
KEYS = (ord("q"), ord("Q"), 27)


class _Inlet:
    """Reads pictures from a file descriptor in a thread and keeps the newest."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._newest: Any = None
        self.ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def take(self) -> Any:
        """The newest picture that was not taken yet, or None."""
        newest, self._newest = self._newest, None
        return newest

    def _read(self) -> None:
        while header := self._exactly(HEADER.size):
            width, height = HEADER.unpack(header)
            if not (data := self._exactly(3 * width * height)):
                break
            self._newest = np.frombuffer(data, np.uint8).reshape(height, width, 3)
        self.ended = True

    def _exactly(self, count: int) -> bytes:
        """So many bytes, or none at the end. Not through a buffered file, which a thread at its end would block."""
        data = bytearray()
        while len(data) < count:
            part = os.read(self._descriptor, min(count - len(data), 1 << 20))
            if not part:
                return b""
            data += part
        return bytes(data)


def _main(title: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pipeline, which then closes this
    import cv2

    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.waitKey(1)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    inlet, fitted = _Inlet(sys.stdin.fileno()), False
    while not inlet.ended:
        picture = inlet.take()
        if picture is not None:
            if not fitted:
                cv2.resizeWindow(title, picture.shape[1], picture.shape[0])
            fitted = True
            cv2.imshow(title, picture)
        if cv2.waitKey(POLL_MS) & 0xFF in KEYS or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            return


if __name__ == "__main__":
    _main(sys.argv[1])
