"""`sidecast cameras`: the list of this machine's devices, and what a probe finds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from cameras import mjpeg_camera, ts_camera, write_clip

from pipeline.errors import SourceError
from stages.sources.capture.device import Arrival
from tools import cameras, cli

MS = 1_000_000


class FakeDevice:
    """What linuxpy shows of a camera."""

    def __init__(self, number: int, card: str = "", modes: list[tuple[str, int, int, int]] = (), error: Any = None):
        from linuxpy.video.device import Capability

        self.index, self.filename, self.error = number, f"/dev/video{number}", error
        types = [SimpleNamespace(pixel_format=SimpleNamespace(name=n), width=w, height=h, min_fps=f, max_fps=f)
                 for n, w, h, f in modes]  # fmt: skip
        capability = Capability.VIDEO_CAPTURE if card else Capability.META_CAPTURE
        self.info = SimpleNamespace(card=card, bus_info="usb-1", device_capabilities=capability, frame_types=types)

    def __enter__(self) -> FakeDevice:
        if self.error:
            raise self.error
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def devices(monkeypatch):
    def have(*found: FakeDevice) -> None:
        monkeypatch.setattr("linuxpy.video.device.iter_devices", lambda: iter(found))

    return have


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(cameras, "WARM_UP_NS", 200 * MS)


def test_a_machine_without_cameras_says_so_and_all_is_well(devices, capsys):
    devices()
    assert cli.main(["cameras"]) == 0
    assert capsys.readouterr().out.startswith("there is no camera on this machine (no device /dev/video*)")


def test_devices_are_listed_with_their_modes(devices, capsys):
    modes = [("YUYV", 640, 480, 30), ("MJPEG", 640, 480, 30), ("MJPEG", 1280, 720, 30), ("MJPEG", 1280, 720, 60)]
    devices(FakeDevice(2, "Right cam"), FakeDevice(0, "Left cam", modes), FakeDevice(1))
    assert cli.main(["cameras"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "/dev/video0: Left cam (usb-1)",
        "  MJPEG 1280x720 at 60, 30 frames/s",
        "  MJPEG 640x480 at 30 frames/s",
        "  YUYV 640x480 at 30 frames/s",
        "/dev/video2: Right cam (usb-1)",
    ]


def test_a_device_that_may_not_be_opened_is_listed_with_the_reason(devices, capsys):
    devices(FakeDevice(0, "x", error=PermissionError(13, "Permission denied")))
    assert cli.main(["cameras"]) == 0
    assert capsys.readouterr().out == "/dev/video0: Permission denied\n"


def test_probe_shows_what_a_camera_sends(quick, capsys):
    with ts_camera(fps=25) as served:
        assert cli.main(["cameras", "--probe", served.url, "--seconds", "1"]) == 0
    first, size, arrived, own = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{served.url}: open after ")
    assert size == "  96x64 h264 yuv420p"
    assert 20 <= float(arrived.split(",")[1].split()[0]) <= 30
    assert float(own.split()[0]) == pytest.approx(25, abs=0.5)
    assert own.split("later than the fastest by ")[1].endswith(" ms (p95)")


def test_probe_of_mjpeg_measures_the_real_rate(quick, capsys):
    with mjpeg_camera(fps=10) as served:
        assert cli.main(["cameras", "--probe", served.url, "--seconds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 8 <= float(lines[2].split(",")[1].split()[0]) <= 12
    assert lines[3] == "  no times in the stream: frames are stamped when they arrive"


def test_probe_of_a_device_takes_its_path(quick, capsys, tmp_path):
    clip = write_clip(tmp_path / "clip.avi", frames=200)
    assert cli.main(["cameras", "--probe", clip, "--seconds", "0.5"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "  96x64"


def test_probe_of_nothing_is_one_sentence_and_fails(capsys):
    assert cli.main(["cameras", "--probe", "63"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sidecast: error: camera /dev/video63: there is no such device")


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "1e9"])
def test_an_impossible_time_is_refused(capsys, seconds):
    assert cli.main(["cameras", "--probe", "0", "--seconds", seconds]) == 2
    assert "is not allowed, expected a number of seconds" in capsys.readouterr().err


def test_summary_tells_rates_jitter_and_drift():
    arrivals = [Arrival(i * 40 * MS, i * 50 * MS) for i in range(101)]
    assert list(cameras.summary(arrivals, [2.0] * 101, 7 * MS)) == [
        "  101 frames, 25.00 frames/s as they arrived, 40 to 40 ms apart (5 to 95 %)",
        "  20.00 frames/s by its own times; later than the fastest by 2.0 ms (p50), 2.0 ms (p95)",
        "  its clock loses 7.0 ms on this machine's",
    ]


def test_summary_of_one_frame_is_refused():
    with pytest.raises(SourceError, match="expected a stream of frames, found 1"):
        list(cameras.summary([Arrival(0, 0)], [0.0], 0))
