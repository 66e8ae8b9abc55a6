"""Rectified views: rows of the left picture correspond to rows of the right one, as the codec expects.

`rectify` is a stage, for the views that come down its chain; `rectified` is a source around another one, for the side
view nested in `pair` and the originals nested in `quality`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from pipeline.errors import StageError
from pipeline.stage import Context, Source, Stage
from pipeline.types import Frame, Item, Pixels, StereoPair, View
from stages.calibration import Calibration, Lens, read_calibration
from stages.picture import resize

__all__ = ["Rectified", "Rectifier", "Rectify"]

Size = tuple[int, int]
Pixel = Annotated[int, Field(ge=16, le=16384)]


@dataclass(kw_only=True)
class _Keys:
    """What stage and source are told."""

    calibration: Annotated[
        str | Annotated[list[str], Field(min_length=1, max_length=2)],
        Field(
            description="OpenCV stereo calibration (YAML or XML, intrinsics and extrinsics in one file or two), or "
            "KITTI's calib_cam_to_cam.txt"
        ),
    ]
    camera: Annotated[Literal["color", "gray"], Field(description="which pair of cameras of a KITTI rig")] = "color"
    size: Annotated[
        tuple[Pixel, Pixel] | None,
        Field(
            description="[width, height]: scale the rectified picture to cover it, then crop the centre; null: as is"
        ),
    ] = None

    _rectifier: Rectifier = field(init=False, repr=False)

    def _read(self, context: Context) -> None:
        import cv2

        cv2.setNumThreads(max(1, context.threads))
        texts = [self.calibration] if isinstance(self.calibration, str) else self.calibration
        calibration = read_calibration([Path(text).expanduser() for text in texts], self.camera)
        self._rectifier = Rectifier(calibration, self.size, context)


@dataclass(kw_only=True)
class Rectify(_Keys, Stage):
    """Rectify the frames of both views, alone or paired; what is coded passes as it is."""

    def open(self, context: Context) -> None:
        """Read the calibration. Raises ConfigError."""
        self._read(context)

    def process(self, item: Item) -> Iterator[Item]:
        match item:
            case Frame():
                yield self._rectifier.frame(item)
            case StereoPair(primary=primary, side=side):
                primary = self._rectifier.frame(primary) if isinstance(primary, Frame) else primary
                yield replace(item, primary=primary, side=side and self._rectifier.frame(side))
            case _:
                yield item


@dataclass(kw_only=True)
class Rectified(_Keys, Source):
    """Another source, rectified: for a side view nested in `pair` and originals nested in `quality`."""

    source: Annotated[Source, Field(description="the source whose frames are rectified")]

    @property
    def clock(self) -> Literal["recorded", "wall"]:  # type: ignore[override]
        """That of the other source."""
        return self.source.clock

    def open(self, context: Context) -> None:
        """Read the calibration and open the other source. Raises ConfigError, SourceError."""
        self._read(context)
        self.source.open(context)

    def read(self) -> Iterator[Item]:
        return self._rectified(self.source.read())

    def pull(self) -> Iterator[Item]:
        return self._rectified(self.source.pull())

    def expected_frames(self) -> int | None:
        return self.source.expected_frames()

    def frame_at(self, frame_id: int) -> Frame | None:
        frame = self.source.frame_at(frame_id)
        return frame and self._rectifier.frame(frame)

    def close(self) -> None:
        self.source.close()

    def _rectified(self, items: Iterator[Item]) -> Iterator[Item]:
        for item in items:
            yield self._rectifier.frame(item) if isinstance(item, Frame) else item


class Rectifier:
    """Brings frames of either view into the rectified cameras; what it needs is computed at the first frame of a view.

    Pictures that have the size of rectified ones while the calibration is for others are taken for rectified, and pass.
    """

    def __init__(self, calibration: Calibration, size: Size | None, context: Context) -> None:
        self._calibration, self._size, self._context = calibration, size, context
        self._maps: dict[tuple[View, Size], Any] = {}
        self._told = False

    def frame(self, frame: Frame) -> Frame:
        """The same frame, rectified. Raises StageError where the calibration is not for pictures of its size."""
        key = (frame.view, (frame.width, frame.height))
        if key not in self._maps:
            self._maps[key] = self._map(frame)
        maps = self._maps[key]
        pixels = frame.pixels if maps is None else _remap(frame.pixels, maps)
        return replace(frame, pixels=resize(pixels, self._size))

    def _map(self, frame: Frame) -> tuple[Any, Any] | None:
        """OpenCV's maps for such pictures; None where they are rectified already."""
        import cv2

        calibration, size = self._calibration, (frame.width, frame.height)
        if not calibration.lenses:
            self._tell_rectified("an odometry sequence is rectified already")
            return None
        lens = calibration.lenses[frame.view]
        if lens.taken is not None and size != lens.taken:
            if size == calibration.rectified:
                self._tell_rectified(f"pictures of {size[0]}x{size[1]} are rectified already")
                return None
            raise self._foreign(frame, lens.taken)
        self._check_centre(frame, lens)
        out = calibration.rectified or size
        rotation, projection = _rectified_camera(calibration, frame.view, out)
        return cv2.initUndistortRectifyMap(lens.matrix, lens.distortion, rotation, projection[:, :3], out, cv2.CV_16SC2)

    def _tell_rectified(self, why: str) -> None:
        if not self._told:
            self._context.log.info("rectify: %s: %s, the frames pass as they are", self._calibration.name, why)
        self._told = True

    def _foreign(self, frame: Frame, taken: Size) -> StageError:
        rectified = self._calibration.rectified
        other = f" (or rectified ones of {rectified[0]}x{rectified[1]})" if rectified and rectified != taken else ""
        return StageError(
            "rectify",
            frame.frame_id,
            f"{self._calibration.name} is for pictures of {taken[0]}x{taken[1]}{other}, the {frame.view} view is "
            f"{frame.width}x{frame.height}; give the source no `size`, `rectify` has one of its own",
        )

    def _check_centre(self, frame: Frame, lens: Lens) -> None:
        x, y = lens.matrix[0, 2], lens.matrix[1, 2]
        if not (0.2 * frame.width < x < 0.8 * frame.width and 0.2 * frame.height < y < 0.8 * frame.height):
            raise StageError(
                "rectify",
                frame.frame_id,
                f"{self._calibration.name} has the {frame.view} camera's centre at {x:.0f}, {y:.0f}, far from the "
                f"middle of {frame.width}x{frame.height}: it is for pictures of another size",
            )


def _rectified_camera(calibration: Calibration, view: View, size: Size) -> tuple[Any, Any]:
    """Rotation and projection of a view, as the file has them or as OpenCV chooses them for pictures of this size."""
    import cv2

    lens = calibration.lenses[view]
    if lens.rotation is not None and lens.projection is not None:
        return lens.rotation, lens.projection
    left, right = calibration.lenses["left"], calibration.lenses["right"]
    r1, r2, p1, p2, *_ = cv2.stereoRectify(
        left.matrix,
        left.distortion,
        right.matrix,
        right.distortion,
        size,
        calibration.rotation,
        calibration.translation,
        flags=cv2.CALIB_ZERO_DISPARITY,
        alpha=0,
    )
    return (r1, p1) if view == "left" else (r2, p2)


def _remap(pixels: Pixels, maps: tuple[Any, Any]) -> Pixels:
    import cv2

    remapped: Pixels = cv2.remap(pixels, *maps, cv2.INTER_CUBIC)
    return np.ascontiguousarray(remapped)
