"""Cameras of the network, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from cameras import mjpeg_camera, ts_camera

from pipeline.clock import SystemClock
from pipeline.errors import SourceError
from stages.sources.capture.network import NetworkCamera


def _opened(url: str, **options: float) -> NetworkCamera:
    camera = NetworkCamera(url, SystemClock(), **options)
    camera.open()
    return camera


def _grab(camera: NetworkCamera, count: int):
    arrivals = []
    while len(arrivals) < count:
        arrival = camera.grab()
        if arrival is not None:
            arrivals.append((arrival, camera.retrieve()()))
    return arrivals


def test_mpegts_frames_bear_the_times_of_the_stream():
    with ts_camera(fps=25) as served:
        camera = _opened(served.url)
        frames = _grab(camera, 8)
        camera.close()
    pts = [arrival.pts_ns for arrival, _ in frames]
    assert [b - a for a, b in pairwise(pts)] == pytest.approx([40_000_000] * 7, abs=20_000)
    assert {pixels.shape for _, pixels in frames} == {(64, 96, 3)}
    brightness = [float(pixels.mean()) for _, pixels in frames]
    assert brightness == sorted(brightness)


def test_the_first_keyframe_is_not_lost_while_the_stream_is_examined():
    with ts_camera(fps=25) as served:
        camera = _opened(served.url)
        (first, _), *_ = _grab(camera, 1)
        start = camera.stream.start_time * camera.stream.time_base
        camera.close()
    assert first.pts_ns / 1e9 == pytest.approx(float(start), abs=0.001)


def test_mjpeg_has_no_times_of_its_own():
    """ffmpeg would invent 25 frames a second, whatever the camera's rate."""
    with mjpeg_camera(fps=40) as served:
        camera = _opened(served.url)
        frames = _grab(camera, 4)
        camera.close()
    assert [arrival.pts_ns for arrival, _ in frames] == [None] * 4
    assert frames[0][1].dtype == "uint8"


def test_a_size_that_changes_half_way_comes_through():
    with mjpeg_camera(fps=50) as served:
        camera = _opened(served.url)
        assert _grab(camera, 2)[-1][1].shape == (64, 96, 3)
        served.size = (128, 48)
        shapes = [pixels.shape for _, pixels in _grab(camera, 30)]
        camera.close()
    assert shapes[-1] == (48, 128, 3)


def test_silence_ends_a_grab_in_time():
    with ts_camera(fps=25) as served:
        camera = _opened(served.url, silence_s=0.3)
        _grab(camera, 3)
        served.silent.set()
        begin = time.monotonic()
        with pytest.raises(SourceError, match=r"camera tcp://127.0.0.1:\d+: nothing came for 0.3 s"):
            _grab(camera, 100)
        assert time.monotonic() - begin < 3
        camera.close()


def test_a_camera_that_hangs_up_is_told():
    with ts_camera(fps=25) as served:
        camera = _opened(served.url)
        _grab(camera, 2)
        served.unplugged.set()
        with pytest.raises(SourceError, match="has hung up"):
            _grab(camera, 100)
        camera.close()


def test_a_refused_connection_is_one_sentence():
    probe = socket.create_server(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    with pytest.raises(
        SourceError, match=rf"^camera rtsp://eve:\*\*\*@127.0.0.1:{port}/x cannot be opened: connection"
    ):
        _opened(f"rtsp://eve:secret@127.0.0.1:{port}/x")


def test_an_address_that_nobody_knows_is_told():
    with pytest.raises(SourceError, match=r"/x cannot be opened: its address is not known, or it breaks off$"):
        _opened("http://nosuch.invalid/x")


def test_something_else_than_a_camera_is_refused():
    with _http(b"<html>It works!</html>" * 100) as url, pytest.raises(SourceError, match="none of mpegts, mpjpeg"):
        _opened(url)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "concat:///etc/passwd", "gopher://x/y"])
def test_other_protocols_are_refused_by_name(url):
    with pytest.raises(SourceError, match=r"is not supported, expected rtsp, rtsps, http, https, udp, tcp"):
        _opened(url)


def test_a_playlist_that_leads_elsewhere_is_not_followed(tmp_path):
    """A hostile camera must not make ffmpeg open files of ours."""
    secret = tmp_path / "secret.ts"
    secret.write_bytes(b"G" * 188)
    with _http(f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n".encode()) as url, pytest.raises(SourceError, match="none of"):
        _opened(url)


@contextmanager
def _http(body: bytes) -> Iterator[str]:
    """The URL of a server that gives this one answer."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        client, _ = server.accept()
        with client:
            client.recv(4096)
            client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/live.m3u8"
    thread.join(5)
    server.close()
