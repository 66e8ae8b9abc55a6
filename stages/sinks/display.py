"""A preview window with the numbers of the run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Annotated, ClassVar

from pydantic import Field

from pipeline.errors import StageError
from pipeline.latency import Cause
from pipeline.stage import Context, Stage
from pipeline.types import Decoded, Frame, Item, Pixels, picture_of
from stages.sinks.overlay import Tally, draw
from stages.sinks.window import HEADER, READY

__all__ = ["Display"]

START_S = 20.0
END_S = 3.0


@dataclass(kw_only=True)
class Display(Stage):
    """Show the newest frame in a window, with bitrate, PSNR and latency by cause; all items pass.

    The window never keeps the run waiting: frames that it is too slow for are not shown. q, Escape or closing it ends
    the window, not the run.
    """

    cause: ClassVar[Cause | None] = "show"

    title: Annotated[str, Field(min_length=1, max_length=100, description="title of the window")] = "sidecast"
    overlay: Annotated[bool, Field(description="numbers along the lower edge of the picture")] = True

    _context: Context = field(init=False, repr=False)
    _window: _Window | None = field(init=False, repr=False, default=None)
    _tally: Tally = field(init=False, repr=False)

    def open(self, context: Context) -> None:
        """Open the window. Raises StageError where there is no screen, or an OpenCV without windows."""
        _check_opencv()
        _check_screen()
        self._context, self._tally = context, Tally(context.ledger)
        self._window = _Window(self.title, context, self._tally if self.overlay else None)

    def process(self, item: Item) -> Iterator[Item]:
        shown = item if isinstance(item, Decoded) else picture_of(item)
        if self._window is not None and shown is not None:
            self._window.show(shown)
        yield item

    def close(self) -> None:
        if self._window is not None:
            self._window.close()


class _Window:
    """The process of the window, and the thread that draws for it."""

    def __init__(self, title: str, context: Context, tally: Tally | None) -> None:
        """Returns when the window stands; raises StageError if it cannot."""
        self._context, self._tally = context, tally
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the window
        try:
            self._process = _start(title, self._complaints)
        except StageError:
            self._complaints.close()
            raise
        self._newest: Decoded | Frame | None = None
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._serve, name="display", daemon=True)
        self._thread.start()

    def show(self, item: Decoded | Frame) -> None:
        """Let this be the next picture; it takes the place of one that was not drawn yet."""
        with self._changed:
            if not self._ended:
                if self._tally is not None:
                    self._tally.add(item)
                self._newest = item
                self._changed.notify()

    def close(self) -> None:
        """Close the window, if the user has not."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(END_S)
        if self._thread.is_alive():
            self._process.kill()  # it does not read, and the thread waits for it
            self._thread.join()
        _end(self._process)
        self._complaints.close()

    def _serve(self) -> None:
        pipe = self._process.stdin
        while pipe is not None and (picture := self._next()) is not None:
            try:
                pipe.write(HEADER.pack(picture.shape[1], picture.shape[0]) + picture[:, :, ::-1].tobytes())
                pipe.flush()
            except (OSError, ValueError):  # its process is gone, or `close` has closed the pipe
                self._gone()
                return

    def _next(self) -> Pixels | None:
        """The newest picture as it is shown; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended)
            item, self._newest = self._newest, None
            if item is None or self._ended:
                return None
            numbers = self._tally.numbers(item) if self._tally is not None else None
        return draw((item.frame if isinstance(item, Decoded) else item).pixels, numbers)

    def _gone(self) -> None:
        """The window's process does not read any more."""
        with self._changed:
            if self._ended:
                return
            self._ended, self._newest = True, None
        if _end(self._process) == 0:
            self._context.log.info("the window was closed, the run goes on")
        else:
            self._context.log.warning("the window is gone, the run goes on: %s", _last_words(self._complaints))


def _check_opencv() -> None:
    import cv2

    gui = [
        line.split(":")[1].strip() for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")
    ]
    if gui and gui[0] in ("", "NONE"):
        raise StageError(
            "display",
            None,
            "this OpenCV cannot open windows (it is opencv-python-headless); install opencv-python in its place, or "
            "take `display` out of the configuration",
        )


def _check_screen() -> None:
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        raise StageError(
            "display",
            None,
            "there is no screen here (DISPLAY is not set); run this node on a machine with one, or take `display` out "
            "of the configuration (write_video keeps the pictures)",
        )


def _start(title: str, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "stages.sinks.window", title]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints)
    timer = threading.Timer(START_S, process.kill)
    timer.start()
    try:
        ready = process.stdout is not None and process.stdout.readline() == READY
    finally:
        timer.cancel()
    if not ready:
        _end(process)
        raise StageError("display", None, f"the window cannot be opened: {_last_words(complaints)}")
    return process


def _end(process: subprocess.Popen[bytes]) -> int:
    """Let the process end, and return its exit code."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        code = process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return code


def _last_words(complaints: IO[bytes]) -> str:
    """What the toolkit has complained about, in one line."""
    complaints.seek(0)
    lines = [line.strip() for line in complaints.read(1 << 16).decode("utf-8", "replace").splitlines() if line.strip()]
    telling = [line for line in lines if "display" in line or "rror" in line]
    return (telling or lines or ["its process has ended without a word"])[0]
