"""Cameras of this machine, with a video file in the place of one: the kernel of a test machine has none."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from cameras import picture_with, write_clip

from pipeline.clock import SystemClock
from pipeline.errors import SourceError
from stages.sources.capture.local import LocalCamera


class Fake:
    """A capture device that remembers what it was asked for, and refuses some of it."""

    def __init__(self, refused: tuple[int, ...] = ()) -> None:
        self.refused, self.asked = refused, list[tuple[int, float]]()
        self.good = True

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def set(self, prop: int, value: float) -> bool:
        self.asked.append((prop, value))
        return prop not in self.refused

    def get(self, prop: int) -> float:
        return {cv2.CAP_PROP_EXPOSURE: 156.0, cv2.CAP_PROP_WB_TEMPERATURE: 4600.0}[prop]

    def grab(self) -> bool:
        return self.good

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((4, 6), 7, np.uint8)

    def release(self) -> None:
        pass


@pytest.fixture
def device(monkeypatch, tmp_path):
    """device(refused) -> (a device file that OpenCV opens as that Fake, the Fake)."""

    def make(*refused: int) -> tuple[str, Fake]:
        fake, path = Fake(refused), tmp_path / "video7"
        path.mkdir(exist_ok=True)  # there, and no regular file
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: fake)
        return str(path), fake

    return make


def _opened(path: int | str, **options: Any) -> LocalCamera:
    camera = LocalCamera(path, SystemClock(), **options)
    camera.open()
    return camera


def test_a_file_is_played_at_its_own_rate_and_then_fails_like_an_unplugged_camera(tmp_path):
    camera = _opened(write_clip(tmp_path / "clip.avi", frames=6, fps=50))
    arrived, seen = [], []
    for _ in range(6):
        arrived.append(camera.grab().arrived_ns)
        seen.append(camera.retrieve()())
    assert (arrived[-1] - arrived[0]) / 1e9 == pytest.approx(0.1, abs=0.03)
    assert np.abs(seen[3].astype(int) - picture_with(3)).max() < 12
    with pytest.raises(SourceError, match=r"clip\.avi gives no more frames"):
        camera.grab()
    camera.close()
    camera.close()


def test_colours_come_out_as_rgb(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "red.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 50, (32, 32))
    writer.write(np.full((32, 32, 3), (0, 0, 255), np.uint8))
    writer.release()
    camera = _opened(str(tmp_path / "red.avi"))
    camera.grab()
    red, green, blue = camera.retrieve()()[16, 16]
    assert red > 240
    assert max(green, blue) < 15
    camera.close()


def test_a_picture_outlives_the_next_grab(tmp_path):
    camera = _opened(write_clip(tmp_path / "clip.avi"))
    camera.grab()
    first = camera.retrieve()
    camera.grab()
    camera.retrieve()
    assert np.abs(first().astype(int) - picture_with(0)).max() < 12
    camera.close()


@pytest.mark.parametrize("missing", [63, "/dev/video63", "no/such/clip.avi"])
def test_a_device_that_is_not_there_is_one_sentence(missing):
    with pytest.raises(
        SourceError, match=r"^camera .*(video63|clip\.avi): there is no such device or file; `sidecast c"
    ):
        _opened(missing)


def test_a_damaged_video_is_one_sentence_without_complaints_of_the_library(tmp_path):
    clip = tmp_path / "zeros.mp4"
    clip.write_bytes(bytes(100_000))
    code = "from pipeline.clock import SystemClock; from stages.sources.capture.local import LocalCamera\n"
    code += f"LocalCamera({str(clip)!r}, SystemClock()).open()"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stderr
    assert said.splitlines()[0] == "Traceback (most recent call last):"
    assert "zeros.mp4 cannot be opened: it is no camera" in said.splitlines()[-1]


@pytest.mark.parametrize("device_path", ["/dev/null", "/etc/hostname"])
def test_something_else_than_a_camera_is_one_sentence(device_path, capfd):
    with pytest.raises(
        SourceError, match=f"camera {device_path} cannot be opened: it is no camera, or another program"
    ):
        _opened(device_path)
    assert capfd.readouterr() == ("", "")


def test_a_device_is_asked_for_its_mode(device):
    path, fake = device()
    _opened(path, size=(1280, 720), fps=30, pixel_format="MJPG")
    assert fake.asked == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 30),
        (cv2.CAP_PROP_BUFFERSIZE, 1),
    ]


def test_exposure_and_white_balance_adapt_themselves_and_are_locked_after_the_warm_up(device):
    path, fake = device()
    camera = _opened(path, lock=True)
    assert fake.asked[-2:] == [(cv2.CAP_PROP_AUTO_EXPOSURE, 3.0), (cv2.CAP_PROP_AUTO_WB, 1)]
    fake.asked.clear()
    assert camera.settle() is None
    assert fake.asked == [
        (cv2.CAP_PROP_AUTO_EXPOSURE, 1.0),
        (cv2.CAP_PROP_EXPOSURE, 156.0),
        (cv2.CAP_PROP_AUTO_WB, 0),
        (cv2.CAP_PROP_WB_TEMPERATURE, 4600.0),
    ]


def test_a_camera_is_left_as_it_is_unless_the_lock_is_asked_for(device):
    path, fake = device()
    camera = _opened(path)
    fake.asked.clear()
    assert camera.settle() is None
    assert fake.asked == []


@pytest.mark.parametrize(
    ("refused", "what"),
    [
        ((cv2.CAP_PROP_EXPOSURE,), "exposure"),
        ((cv2.CAP_PROP_AUTO_WB,), "white balance"),
        ((cv2.CAP_PROP_AUTO_EXPOSURE, cv2.CAP_PROP_WB_TEMPERATURE), "exposure and white balance"),
    ],
)
def test_a_camera_that_refuses_the_lock_is_told(device, refused, what):
    path, _ = device(*refused)
    assert _opened(path, lock=True).settle() == f"camera {path} does not let its {what} be locked"


def test_a_grey_camera_gives_three_equal_channels(device):
    path, _ = device()
    camera = _opened(path)
    camera.grab()
    assert np.array_equal(camera.retrieve()(), np.full((4, 6, 3), 7, np.uint8))


def test_a_device_that_vanishes_is_told(device):
    path, fake = device()
    camera = _opened(path)
    fake.good = False
    with pytest.raises(SourceError, match="gives no more frames"):
        camera.grab()
