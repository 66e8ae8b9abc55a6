"""What a person sees on the terminal while nodes run: log lines, one live line, and errors as sentences.

All of it goes to stderr; stdout is for results.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import TextIO

__all__ = ["ERRORS_DIR", "Terminal", "complain", "set_up"]

ERRORS_DIR = "SIDECAST_ERRORS_DIR"
"""Environment variable: the folder in which a node that `pipeline.launcher` has started leaves its sentence."""

CLEAR = "\r\x1b[K"


class Terminal:
    """A stream with lines that stay and, if it is a terminal, a last line that changes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock, self._live = stream, threading.RLock(), ""
        self.interactive = stream.isatty()

    def line(self, text: str) -> None:
        """Write a line that stays, above the live one."""
        with self._lock:
            self._write(f"{CLEAR}{text}\n{self._live}" if self.interactive else f"{text}\n")

    def live(self, text: str) -> None:
        """Replace the live line; '' takes it away."""
        with self._lock:
            if self.interactive and text != self._live:
                self._live = text
                self._write(CLEAR + text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # whoever read this has gone; that must not end the run
            return


class _Lines(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.line(self.format(record))


def set_up(*, verbose: bool, node: str = "", terminal: Terminal | None = None) -> Terminal:
    """Send the log of `sidecast` to stderr: INFO, or with `verbose` DEBUG, which shows tracebacks."""
    terminal = terminal or Terminal(sys.stderr)
    handler = _Lines(terminal)
    name = f"{node} " if node else ""
    handler.setFormatter(logging.Formatter(f"%(asctime)s {name}%(levelname)s: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("sidecast")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    return terminal


def complain(sentence: str) -> None:
    """Print an error, or hand it to the process that has started this node, which prints it once for all."""
    folder = os.environ.get(ERRORS_DIR)
    if folder and Path(folder).is_dir():
        with (Path(folder) / str(os.getpid())).open("a") as file:
            file.write(f"{sentence}\n")
        return
    for line in sentence.splitlines():
        Terminal(sys.stderr).line(f"sidecast: error: {line}")
