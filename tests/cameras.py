"""Cameras for tests: HTTP MJPEG and MPEG-TS over TCP from threads of this process, on free ports of this machine."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import cv2
import numpy as np

__all__ = ["NetworkSpecimen", "mjpeg_camera", "picture_with", "ts_camera", "write_clip"]


def picture_with(number: int, size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """(H, W, 3) uint8 RGB, a ramp whose brightness tells the number."""
    width, height = size
    ramp = np.linspace(0, 60, width, dtype=np.uint8)[None, :, None]
    return np.broadcast_to(ramp + np.uint8(10 + 8 * (number % 20)), (height, width, 3)).copy()


class NetworkSpecimen:
    """Serves one client after the other, as long as the test wants."""

    def __init__(self, scheme: str, serve: Callable[[NetworkSpecimen, socket.socket], None], fps: float) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.05)
        self.port = int(self._server.getsockname()[1])
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.fps, self.clients, self.sent = fps, 0, 0
        self.size = (96, 64)
        self.silent = threading.Event()
        """Connected, but nothing comes."""
        self.unplugged = threading.Event()
        """Hangs up, and lets nobody in."""
        self._over = threading.Event()
        self._serve = serve
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def pictures(self) -> Iterator[np.ndarray]:
        """What this camera sees, at its pace, until it is unplugged."""
        due = time.monotonic()
        while not (self._over.is_set() or self.unplugged.is_set()):
            if not self.silent.is_set():
                yield picture_with(self.sent, self.size)
                self.sent += 1
            due += 1 / self.fps
            self._over.wait(max(0.0, due - time.monotonic()))

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)
        self._server.close()

    def _run(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._server.accept()
                with client:
                    if not self.unplugged.is_set():
                        self.clients += 1
                        client.settimeout(2)
                        with contextlib.suppress(OSError, av.error.FFmpegError):
                            self._serve(self, client)


@contextmanager
def mjpeg_camera(fps: float = 25.0) -> Iterator[NetworkSpecimen]:
    """http://..., multipart JPEG, as cheap network cameras have it."""

    def serve(camera: NetworkSpecimen, client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        for pixels in camera.pictures():
            data = cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()
            client.sendall(
                b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)
            )

    camera = NetworkSpecimen("http", serve, fps)
    try:
        yield camera
    finally:
        camera.close()


@contextmanager
def ts_camera(fps: float = 25.0) -> Iterator[NetworkSpecimen]:
    """tcp://..., H.264 in MPEG-TS with a keyframe every fifth frame; its times begin at 0 for each client."""

    def serve(camera: NetworkSpecimen, client: socket.socket) -> None:
        with av.open(_SocketFile(client), "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=round(fps))
            stream.width, stream.height = camera.size
            stream.pix_fmt, stream.options = "yuv420p", {"preset": "ultrafast", "tune": "zerolatency"}
            stream.codec_context.gop_size = 5
            for i, pixels in enumerate(camera.pictures()):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, round(fps))
                container.mux(stream.encode(frame))

    camera = NetworkSpecimen("tcp", serve, fps)
    try:
        yield camera
    finally:
        camera.close()


class _SocketFile(io.RawIOBase):
    def __init__(self, client: socket.socket) -> None:
        self._client = client

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self._client.sendall(data)
        return len(data)


def write_clip(path, frames: int = 12, fps: int = 50, size: tuple[int, int] = (96, 64)) -> str:
    """A video file that stands in for a local camera; returns its path as text."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size)
    for i in range(frames):
        writer.write(picture_with(i, size))
    writer.release()
    return str(path)
