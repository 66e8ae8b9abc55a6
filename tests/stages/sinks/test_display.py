"""The window: that it stands, that it never harms the run, and why there may be none."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest

from pipeline.errors import StageError
from pipeline.stage import Context
from pipeline.types import Decoded, Frame, Packet
from stages.sinks.display import Display


def decoded(i: int) -> Decoded:
    frame = Frame(np.full((240, 640, 3), i % 255, np.uint8), "left", i, i * 10**8, 0)
    return Decoded(
        frame, None, None, None, Packet(i, "left", "primary", i * 10**8, 0, b"model-id", 640, 240, 1.0, b"x")
    )


@pytest.fixture
def screen(need: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A virtual screen of its own."""
    need("Xvfb", "xvfb")
    need("xdotool", "xdotool")
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    number = server.stdout.readline().decode().strip()
    monkeypatch.setenv("DISPLAY", f":{number}")
    yield f":{number}"
    server.kill()
    server.wait()
    server.stdout.close()


def xdotool(*words: str) -> str:
    return subprocess.run(["xdotool", *words], capture_output=True, text=True).stdout


def show_until(stage: Display, done: Callable[[], bool], seconds: float = 20.0) -> int:
    """Pass frames at 50 a second until `done`; how many."""
    deadline, i = time.monotonic() + seconds, 0
    while not done():
        assert time.monotonic() < deadline
        (item,) = stage.process(decoded(i))
        assert item.frame.frame_id == i
        i += 1
        time.sleep(0.02)
    return i


def test_q_closes_the_window_and_the_run_goes_on(
    context: Context, screen: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Display(title="left eye")
    with caplog.at_level(logging.INFO, "sidecast"):
        stage.open(context)
        show_until(stage, lambda: bool(xdotool("search", "--name", "left eye")))
        xdotool("search", "--name", "left eye", "key", "q")
        show_until(stage, lambda: bool(caplog.records))
        assert not xdotool("search", "--name", "left eye")
        assert len(list(stage.process(decoded(0)))) == 1
        stage.close()
    assert [r.message for r in caplog.records] == ["the window was closed, the run goes on"]


def test_a_window_whose_process_dies_does_not_harm_the_run(
    context: Context, screen: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Display()
    stage.open(context)
    stage._window._process.kill()
    show_until(stage, lambda: bool(caplog.records))
    stage.close()
    assert caplog.records[0].message.startswith("the window is gone, the run goes on: ")


def test_a_window_that_hangs_keeps_neither_the_run_nor_its_end_waiting(
    context: Context, screen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.sinks.display.END_S", 0.2)
    stage = Display()
    stage.open(context)
    process = stage._window._process
    process.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    for i in range(200):
        assert len(list(stage.process(decoded(i)))) == 1
    stage.close()
    assert time.monotonic() - begin < 5
    assert process.returncode == -signal.SIGKILL


def test_the_end_of_the_run_closes_the_window(context: Context, screen: str) -> None:
    stage = Display(title="ends", overlay=False)
    stage.open(context)
    list(stage.process(Frame(np.zeros((24, 32, 3), np.uint8), "left", 0, 0, 0)))
    stage.close()
    assert stage._window._process.returncode == 0
    assert not xdotool("search", "--name", "ends")


def test_without_a_screen_there_is_one_sentence(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(StageError, match=r"^display: there is no screen here \(DISPLAY is not set\); run this node on"):
        Display().open(context)


def test_a_screen_that_does_not_answer_is_named(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(StageError, match=r"^display: the window cannot be opened: .*not connect to display :4711$"):
        Display().open(context)


def test_an_opencv_without_windows_is_named(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    told = cv2.getBuildInformation().replace("QT5", "NONE")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: told)
    with pytest.raises(StageError, match=r"^display: this OpenCV cannot open windows \(it is opencv-python-headless\)"):
        Display().open(context)
