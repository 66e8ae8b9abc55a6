"""Cameras of this machine through OpenCV, and video files that stand in for one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.clock import Clock
from pipeline.errors import SourceError
from pipeline.types import Pixels
from stages.sources.capture.device import Arrival

__all__ = ["LocalCamera"]

FALLBACK_FPS = 25.0
SILENT = 0
"""OpenCV's log level."""
FFMPEG_QUIET = "-8"
V4L_MANUAL, V4L_AUTOMATIC = 1.0, 3.0
"""Values of CAP_PROP_AUTO_EXPOSURE, as Video4Linux and so OpenCV have them."""


class LocalCamera:
    """A device by index or path. A video file is played at its own rate and ends like a camera that is unplugged."""

    def __init__(
        self,
        device: int | str,
        clock: Clock,
        *,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        pixel_format: str | None = None,
        lock: bool = False,
    ) -> None:
        """`size`, `fps` and `pixel_format` (four letters) are what the device is asked for; null: as it comes.

        `lock`: keep exposure and white balance as they are when the warm-up is over.
        """
        self.name = f"/dev/video{device}" if isinstance(device, int) else device
        self._device, self._clock = device, clock
        self._size, self._fps, self._pixel_format, self._lock = size, fps, pixel_format, lock
        self._capture: Any = None
        self._file_step_ns: int | None = None
        self._due_ns = 0

    def open(self) -> None:
        import cv2

        self._check_exists()
        self._file_step_ns = None
        # OpenCV, and the FFmpeg in it, would print warnings of their own beside our sentence.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FFMPEG_QUIET)
        level = cv2.getLogLevel()
        cv2.setLogLevel(SILENT)
        try:
            self._capture = cv2.VideoCapture(self._device, self._backend())
        finally:
            cv2.setLogLevel(level)
        if not self._capture.isOpened():
            self.close()
            raise SourceError(
                f"camera {self.name} cannot be opened: it is no camera, or another program has it; "
                "`sidecast cameras` lists those of this machine"
            )
        if self._is_file:
            self._file_step_ns = round(1e9 / (self._capture.get(cv2.CAP_PROP_FPS) or FALLBACK_FPS))
            self._due_ns = self._clock.monotonic_ns()
        else:
            self._ask()

    def grab(self) -> Arrival | None:
        if self._file_step_ns is not None:
            self._clock.sleep((self._due_ns - self._clock.monotonic_ns()) / 1e9)
            self._due_ns += self._file_step_ns
        if self._capture is None or not self._capture.grab():
            raise SourceError(f"camera {self.name} gives no more frames")
        return Arrival(self._clock.wall_ns(), None)

    def retrieve(self) -> Callable[[], Pixels]:
        import cv2

        # The next grab may overwrite what this one has brought, so it is copied here and only converted later.
        good, picture = self._capture.retrieve()
        if not good or picture is None:
            raise SourceError(f"camera {self.name} gave a frame that cannot be read")

        def convert() -> Pixels:
            pixels: Pixels = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB if picture.ndim == 2 else cv2.COLOR_BGR2RGB)
            return pixels

        return convert

    def settle(self) -> str | None:
        import cv2

        if not self._lock or self._is_file:
            return None
        exposure = self._capture.get(cv2.CAP_PROP_EXPOSURE)
        warmth = self._capture.get(cv2.CAP_PROP_WB_TEMPERATURE)
        refused = []
        if not (self._set(cv2.CAP_PROP_AUTO_EXPOSURE, V4L_MANUAL) and self._set(cv2.CAP_PROP_EXPOSURE, exposure)):
            refused.append("exposure")
        if not (self._set(cv2.CAP_PROP_AUTO_WB, 0) and self._set(cv2.CAP_PROP_WB_TEMPERATURE, warmth)):
            refused.append("white balance")
        return f"camera {self.name} does not let its {' and '.join(refused)} be locked" if refused else None

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    @property
    def _is_file(self) -> bool:
        return isinstance(self._device, str) and Path(self._device).is_file()

    def _backend(self) -> int:
        import cv2

        linux_device = sys.platform == "linux" and not self._is_file
        return int(cv2.CAP_V4L2 if linux_device else cv2.CAP_ANY)

    def _check_exists(self) -> None:
        if sys.platform == "linux" and not Path(self.name).exists():
            raise SourceError(
                f"camera {self.name}: there is no such device or file; `sidecast cameras` lists those of this machine"
            )

    def _ask(self) -> None:
        """Ask for the mode; what the camera makes of it is seen in its frames."""
        import cv2

        if self._pixel_format:
            self._set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*self._pixel_format))
        if self._size:
            self._set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
            self._set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
        if self._fps:
            self._set(cv2.CAP_PROP_FPS, self._fps)
        self._set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if self._lock:
            # A camera remembers: what an earlier run has locked must adapt itself to the light before it is locked.
            self._set(cv2.CAP_PROP_AUTO_EXPOSURE, V4L_AUTOMATIC)
            self._set(cv2.CAP_PROP_AUTO_WB, 1)

    def _set(self, prop: int, value: float) -> bool:
        return bool(self._capture.set(prop, value))
