"""Cameras: of this machine through OpenCV, of the network through PyAV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.config.addresses import without_passwords
from pipeline.errors import SourceError
from pipeline.stage import Context, Source
from pipeline.types import Frame, Item, Role, View, other_view
from stages.picture import resize
from stages.sources.capture.device import Device, is_url, numbered
from stages.sources.capture.feed import Feed, Shot, Told
from stages.sources.capture.local import LocalCamera
from stages.sources.capture.network import NetworkCamera

__all__ = ["Camera"]

Pixel = Annotated[int, Field(ge=16, le=16384)]
MS = 1_000_000


@dataclass(kw_only=True)
class Camera(Source):
    """A camera, or two of one machine that are grabbed together. It is reopened when it fails, and the run goes on.

    Frames that nobody can take in time give way to fresher ones, and are counted. frame_id counts the frames.
    """

    clock: ClassVar[Literal["recorded", "wall"]] = "wall"

    device: Annotated[
        int | Annotated[str, Field(min_length=1)],
        Field(
            description="number or path of a device of this machine, a video file that stands in for one, or a URL: "
            "rtsp, http (MJPEG), udp, tcp (MPEG-TS); rtsp://...?tcp for RTSP over TCP"
        ),
    ]
    view: Annotated[View, Field(description="the view that this camera sees: left or right")] = "left"
    side_device: Annotated[
        int | Annotated[str, Field(min_length=1)] | None,
        Field(description="a second device of this machine, the other view: both are grabbed back to back"),
    ] = None
    size: Annotated[
        tuple[Pixel, Pixel] | None,
        Field(description="[width, height]: scale to cover it, then crop the centre; null: as the first frame is"),
    ] = None
    capture_size: Annotated[
        tuple[Pixel, Pixel] | None, Field(description="[width, height] that a device of this machine is asked for")
    ] = None
    fps: Annotated[
        float | None, Field(gt=0, le=1000, description="frames per second that a device of this machine is asked for")
    ] = None
    format: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z0-9 ]{4}$", description="format that a device of this machine is asked for, as MJPG"),
    ] = None
    lock: Annotated[
        bool, Field(description="keep exposure and white balance of this machine's devices as the warm-up left them")
    ] = False
    warm_up_s: Annotated[
        float, Field(ge=0, le=60, description="frames are thrown away for so long after each opening")
    ] = 0.3
    silence_s: Annotated[
        float, Field(ge=0.1, le=60, description="without a frame for so long the camera is opened again")
    ] = 2.0
    duration_s: Annotated[float, Field(ge=0, description="end after so long; 0: when stopped")] = 0.0

    _context: Context = field(init=False, repr=False)
    _feed: Feed | None = field(init=False, repr=False, default=None)
    _end_ns: int | None = field(init=False, repr=False, default=None)
    _counted: int = field(init=False, repr=False, default=0)
    _sizes: dict[View, tuple[int, int]] = field(init=False, repr=False, default_factory=dict)
    _changed: dict[View, tuple[int, int]] = field(init=False, repr=False, default_factory=dict)

    def open(self, context: Context) -> None:
        """Open the camera. Raises SourceError where that is impossible; what fails later is opened again."""
        self._check_keys()
        self._context = context
        told = Told(context.log.warning, self._show, self._drop)
        feed = Feed(self._devices, context.clock, told, silence_s=self.silence_s, warm_up_s=self.warm_up_s)
        feed.open()
        self._feed = feed
        self._report()

    def read(self) -> Iterator[Item]:
        """Frames as they come, the side view right after the primary one."""
        if self._feed is None:
            return
        for shot in self._feed.take(self._is_over):
            if self._end_ns is None and self.duration_s:
                self._end_ns = self._context.clock.monotonic_ns() + round(self.duration_s * 1e9)
            yield from self._frames(shot)

    def close(self) -> None:
        if self._feed is not None:
            self._feed.close()
            self._report()

    def _is_over(self) -> bool:
        timed_out = self._end_ns is not None and self._context.clock.monotonic_ns() >= self._end_ns
        return timed_out or self._context.stop.is_set()

    @property
    def _views(self) -> tuple[View, ...]:
        return (self.view,) if self.side_device is None else (self.view, other_view(self.view))

    def _check_keys(self) -> None:
        if self.side_device is not None and (is_url(self.device) or is_url(self.side_device)):
            raise SourceError(
                "camera: `side_device` is for two devices of this machine, which are grabbed together; cameras of the "
                "network send when they like, so give the other one to `side` of `pair`"
            )
        asked = {"capture_size": self.capture_size, "fps": self.fps, "format": self.format, "lock": self.lock or None}
        given = [f"`{name}`" for name, value in asked.items() if value is not None]
        if is_url(self.device) and given:
            raise SourceError(
                f"camera {without_passwords(str(self.device))}: {', '.join(given)} is for devices of this machine; "
                "set it in the camera itself"
            )
        if self.side_device is not None and numbered(self.side_device) == numbered(self.device):
            raise SourceError(f"camera: `device` and `side_device` are both {self.device}, expected two")

    def _devices(self) -> Sequence[Device]:
        return [self._device(device) for device in (self.device, self.side_device) if device is not None]

    def _device(self, device: int | str) -> Device:
        clock = self._context.clock
        if isinstance(device, str) and is_url(device):
            return NetworkCamera(device, clock, silence_s=self.silence_s)
        return LocalCamera(
            numbered(device), clock, size=self.capture_size, fps=self.fps, pixel_format=self.format, lock=self.lock
        )

    def _frames(self, shot: Shot) -> Iterator[Frame]:
        for view, pts_ns, load in zip(self._views, shot.pts_ns, shot.load, strict=True):
            pixels = load()
            height, width = pixels.shape[:2]
            size = self._size_of(view, (width, height))
            role: Role = "primary" if view == self.view else "side"
            yield Frame(resize(pixels, size), view, shot.frame_id, pts_ns, self._context.clock.wall_ns(), role)

    def _size_of(self, view: View, found: tuple[int, int]) -> tuple[int, int]:
        """What frames of that view are brought to; a camera that changes its size half way is told about once."""
        first = self._sizes.setdefault(view, found)
        size = self.size or first
        if found != self._changed.get(view, first):
            self._context.log.warning(
                "the %s camera sends %dx%d now, its frames are brought to %dx%d", view, *found, *size
            )
        self._changed[view] = found
        return size

    def _show(self, up: bool) -> None:
        metrics, feed = self._context.metrics, self._feed
        if feed is None:
            return
        for view, stamps in zip(self._views, feed.stamps, strict=True):
            metrics.camera_up.labels(view).set(up)
            metrics.camera_late_seconds.labels(view).set(stamps.late_ns / 1e9)
            metrics.camera_drift_seconds.labels(view).set(stamps.drift_ns / 1e9)
            metrics.camera_reopened.labels(view).inc(feed.watchdog.reopened - self._counted)
        self._counted = feed.watchdog.reopened
        self._report()

    def _report(self) -> None:
        """What the report says about this camera; with two devices, both are reopened together."""
        feed, now_ns = self._feed, self._context.clock.monotonic_ns()
        if feed is None:
            return
        reopened = feed.watchdog.reopened
        for view, device, stamps in zip(self._views, (self.device, self.side_device), feed.stamps, strict=False):
            self._context.facts[f"camera_{view}"] = {
                "device": without_passwords(str(device)),
                "reopened": reopened,
                "down_s": round(feed.watchdog.down_ns(now_ns) / 1e9, 3),
                "drift_ms": round(stamps.drift_ns / MS, 3),
            }

    def _drop(self, shot: Shot) -> None:
        self._context.ledger.drop(shot.frame_id, "latest", shot.pts_ns[0])
