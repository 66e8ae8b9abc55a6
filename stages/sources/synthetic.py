"""A rendered drive through a street, with true disparity: for demonstrations and tests without any recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.stage import Context
from pipeline.types import Pixels, View
from stages.sources.recorded import Recorded, Shot

if TYPE_CHECKING:
    from stages.sources.street import Street

__all__ = ["Synthetic"]

START_NS = 1_700_000_000_000_000_000
"""The drive begins at this time since the Unix epoch, so that an offset of a camera makes no time negative."""

DEFAULT_SIZE = (640, 192)


@dataclass(kw_only=True)
class Synthetic(Recorded):
    """A drive along a street that differs with the seed; any frame can be made on its own, the same in every process.

    `size` is what is rendered (640x192 if null).
    """

    length: Annotated[int, Field(ge=1, le=1_000_000, description="number of frames of the drive")] = 60
    fps: Annotated[float, Field(gt=0, le=1000, description="frames per second of both cameras")] = 10.0
    seed: Annotated[int, Field(ge=0, lt=1 << 31, description="another street for every number")] = 0
    speed_mps: Annotated[float, Field(ge=0, le=60, description="speed of the car, metres per second")] = 8.0
    baseline_m: Annotated[float, Field(gt=0, le=2, description="distance of the two cameras, metres")] = 0.54
    focal_px: Annotated[float | None, Field(gt=0, description="focal length, px; null: 0.58 of the width")] = None
    offset_ms: Annotated[
        float, Field(ge=-10_000, le=10_000, description="when the right camera takes its picture, after the left one")
    ] = 0.0
    noise: Annotated[float, Field(ge=0, le=30, description="deviation of the sensors' noise, grey levels")] = 1.2

    def open(self, context: Context) -> None:
        self._street: Street | None = None
        super().open(context)

    def open_track(self, view: View) -> RenderedTrack:
        return RenderedTrack(self, view)

    def disparity_at(self, frame_id: int, view: View = "left") -> NDArray[np.float32]:
        """(H, W) float32: x_left - x_right in px of what each pixel of that view shows, 0 at infinity.

        It is the disparity to a partner that takes its picture at the same time, whatever `offset_ms` is.
        """
        return self.street.view(self.seconds_at(frame_id, view), self.speed_mps, view)[1]

    @property
    def street(self) -> Street:
        """The renderer, made when it is first needed (about half a second)."""
        if self._street is None:
            from stages.sources.street import Rig, street_of

            width, height = self.size or DEFAULT_SIZE
            self._street = street_of(Rig(width, height, self.focal_px or 0.58 * width, self.baseline_m), self.seed)
            self._noise = _noise_tile(self.seed, height, width, self.noise)
        return self._street

    def seconds_at(self, frame_id: int, view: View) -> float:
        """Time of a frame since the start of the drive."""
        return frame_id / self.fps + (self.offset_ms / 1000 if view == "right" else 0.0)

    def render(self, frame_id: int, view: View) -> Pixels:
        """(H, W, 3) uint8 RGB as that view's camera sees it: slightly unsharp, with its own colours and noise."""
        import cv2

        clean, _ = self.street.view(self.seconds_at(frame_id, view), self.speed_mps, view)
        seen = cv2.LUT(cv2.GaussianBlur(clean, (3, 3), 0.45), _tone_curve(view))
        height, width = seen.shape[:2]
        rng = np.random.default_rng([self.seed, 3, frame_id, view == "right"])
        top, left = rng.integers(0, self._noise.shape[0] - height), rng.integers(0, self._noise.shape[1] - width)
        noisy: Pixels = cv2.add(seen, self._noise[top : top + height, left : left + width], dtype=cv2.CV_8U)
        return noisy


class RenderedTrack:
    """One camera of the drive."""

    def __init__(self, drive: Synthetic, view: View) -> None:
        self._drive, self._view = drive, view

    def shots(self) -> Iterator[Shot]:
        return (self._shot(i) for i in range(self._drive.length))

    def shot(self, frame_id: int) -> Shot | None:
        return self._shot(frame_id) if 0 <= frame_id < self._drive.length else None

    def count(self, chosen: range) -> int:
        return len(range(chosen.start, min(chosen.stop, self._drive.length), chosen.step))

    def close(self) -> None:
        pass

    def _shot(self, frame_id: int) -> Shot:
        pts_ns = START_NS + round(self._drive.seconds_at(frame_id, self._view) * 1e9)
        return Shot(frame_id, pts_ns, lambda: self._drive.render(frame_id, self._view))


def _noise_tile(seed: int, height: int, width: int, deviation: float) -> NDArray[np.int16]:
    """Noise larger than a picture: every frame takes its own cut, which is ten times faster than new noise."""
    rng = np.random.default_rng([seed, 4])
    noise = rng.standard_normal((height + 97, width + 131, 3), dtype=np.float32) * np.float32(deviation)
    return np.asarray(np.rint(noise), np.int16)


def _tone_curve(view: View) -> NDArray[np.uint8]:
    """(1, 256, 3): contrast of a camera in sunlight; the right one is a little darker and warmer."""
    level = np.linspace(0, 1, 256)[:, None]
    curve = level + 0.10 * np.sin((level - 0.5) * 2 * np.pi) * 0.9
    if view == "right":
        curve = (curve * np.array([0.985, 0.965, 0.945]) + 0.004) ** 1.02
    return np.asarray(np.clip(np.rint(curve * 255), 0, 255), np.uint8)[None]
