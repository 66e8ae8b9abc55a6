"""Progress on a terminal and in a log."""

from __future__ import annotations

import io

from pipeline.log import Terminal
from tools.evaluation.progress import Progress


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_screen_shows_every_picture_and_is_left_clean() -> None:
    screen = Screen()
    progress = Progress(Terminal(screen), 2)
    progress.step("a")
    progress.step("b")
    progress.close()
    assert "1/2 pictures" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_a_log_gets_few_lines() -> None:
    log = io.StringIO()
    progress = Progress(Terminal(log), 3)
    for name in "abc":
        progress.step(name)
    assert log.getvalue() == "3/3 pictures, 0:00 left (c)\n"
