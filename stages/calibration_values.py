"""What a stereo calibration is made of, from the words of a file: numbers that can be what they should be.

A library of `stages.calibration`. Every function takes the names of the file and of the value, for its ConfigError.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

__all__ = [
    "Matrix",
    "Size",
    "as_camera_matrix",
    "as_distortion",
    "as_numbers",
    "as_projection",
    "as_rotation",
    "as_size",
    "check_translation",
]

Matrix = NDArray[np.float64]
Size = tuple[int, int]

MAX_SIDE_PX = 16384
DISTORTIONS = (4, 5, 8, 12, 14)
"""Numbers of coefficients that OpenCV's model of a lens has."""
ROTATION_TOLERANCE = 0.01


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = value.get("data")
    yield from value if isinstance(value, list | tuple) else [value]


def as_numbers(name: str, what: str, value: Any, counts: Sequence[int]) -> Matrix:
    """(n,) with one of so many `counts` of finite numbers."""
    words = list(_flat(value))
    if len(words) not in counts:
        allowed = " or ".join(map(str, counts))
        raise ConfigError(f"{name}: {what} must have {allowed} numbers, found {len(words)}")
    try:
        numbers = [float(word) for word in words]
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name}: {what} must be numbers, found {str(words)[:60]}") from None
    if not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{name}: {what} must be finite numbers, found {str(words)[:60]}")
    return np.array(numbers)


def as_camera_matrix(name: str, what: str, value: Any) -> Matrix:
    """(3, 3), without skew."""
    matrix = as_numbers(name, what, value, (9,)).reshape(3, 3)
    straight = np.allclose(matrix[2], (0, 0, 1)) and matrix[1, 0] == 0
    if not (straight and 1 <= matrix[0, 0] <= 1e6 and 1 <= matrix[1, 1] <= 1e6):
        raise ConfigError(f"{name}: {what} is no camera matrix, expected [fx 0 cx; 0 fy cy; 0 0 1] with fx, fy in px")
    return matrix


def as_distortion(name: str, what: str, value: Any) -> Matrix:
    """(n,) coefficients."""
    return as_numbers(name, what, value, DISTORTIONS)


def as_rotation(name: str, what: str, value: Any) -> Matrix:
    """(3, 3), also of a rotation vector."""
    values = as_numbers(name, what, value, (9, 3))
    if len(values) == 3:
        import cv2

        turned: Matrix = cv2.Rodrigues(values)[0]
        return turned
    matrix = values.reshape(3, 3)
    if np.abs(matrix @ matrix.T - np.eye(3)).max() > ROTATION_TOLERANCE or np.linalg.det(matrix) < 0:
        raise ConfigError(f"{name}: {what} is no rotation, its rows must be of length 1 and at right angles")
    return matrix


def as_projection(name: str, what: str, value: Any) -> Matrix:
    """(3, 4)."""
    matrix = as_numbers(name, what, value, (12,)).reshape(3, 4)
    if not (1 <= matrix[0, 0] <= 1e6 and 1 <= matrix[1, 1] <= 1e6):
        raise ConfigError(
            f"{name}: {what} is no projection, expected focal lengths in px where {matrix[0, 0]:g} stands"
        )
    return matrix


def as_size(name: str, what: str, value: Any) -> Size:
    """(width, height), px."""
    width, height = as_numbers(name, what, value, (2,))
    if not (16 <= width <= MAX_SIDE_PX and 16 <= height <= MAX_SIDE_PX and width % 1 == height % 1 == 0):
        raise ConfigError(
            f"{name}: {what} must be width and height from 16 to {MAX_SIDE_PX} px, found {width:g} {height:g}"
        )
    return int(width), int(height)


def check_translation(name: str, translation: Matrix) -> None:
    """T brings points from the left camera, the first one, to the right one."""
    x, y = float(translation[0]), float(translation[1])
    if not np.abs(translation).max() > 0:
        raise ConfigError(f"{name}: T is 0, two cameras at one place see no disparity")
    if abs(y) > abs(x):
        raise ConfigError(f"{name}: T says that the cameras stand above each other, expected them side by side")
    if x > 0:
        raise ConfigError(
            f"{name}: T says that camera 1 is the right one, expected the left one; calibrate them exchanged"
        )
