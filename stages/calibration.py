"""Stereo calibration files, strictly: OpenCV's YAML and XML, and KITTI's text files.

    OpenCV    M1 D1 M2 D2 with R T (as `stereoCalibrate` gives them), or with R1 P1 R2 P2 (`stereoRectify`); one file,
              or two as OpenCV's own sample writes them (intrinsics and extrinsics); camera 1 is the left one
    KITTI     calib_cam_to_cam.txt of the raw recordings; calib.txt of the odometry sequences says that their pictures
              are rectified already

Files are read with plain parsers of ours and not by OpenCV, which has no sentence for a file that is damaged.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.errors import ConfigError
from pipeline.types import View
from stages.calibration_values import (
    Matrix,
    Size,
    as_camera_matrix,
    as_distortion,
    as_numbers,
    as_projection,
    as_rotation,
    as_size,
    check_translation,
)

__all__ = ["Calibration", "Lens", "read_calibration"]

MAX_BYTES = 1 << 18

_NAMES = {
    "M": ("m{}", "k{}", "cameramatrix{}", "cameramatrix{side}", "{side}cameramatrix"),
    "D": ("d{}", "distcoeffs{}", "dist{}", "distcoeffs{side}", "{side}distcoeffs"),
    "R": ("r{}",),
    "P": ("p{}",),
}
"""How files name the values of camera 1 and 2, without underscores and in small letters."""
_KITTI_LINE = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*:\s*(.*)")
_KITTI_CAMERAS: dict[str, dict[View, str]] = {
    "color": {"left": "02", "right": "03"},
    "gray": {"left": "00", "right": "01"},
}


@dataclass(frozen=True, eq=False)
class Lens:
    """One camera of a rig."""

    matrix: Matrix
    """(3, 3): focal lengths and centre, px."""
    distortion: Matrix
    """(n,): OpenCV's coefficients."""
    rotation: Matrix | None = None
    """(3, 3): R1 or R2, which turns this camera's rays into the rectified camera's."""
    projection: Matrix | None = None
    """(3, 4): P1 or P2 of the rectified camera."""
    taken: Size | None = None
    """(width, height) of the pictures that this holds for, where the file says it."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rig of two cameras."""

    name: str
    """The file, for messages."""
    lenses: Mapping[View, Lens]
    """Empty where the pictures are rectified already."""
    rotation: Matrix | None = None
    """(3, 3): R, from the left camera to the right one, where the rectified cameras are not given."""
    translation: Matrix | None = None
    """(3,): T, the same."""
    rectified: Size | None = None
    """(width, height) of rectified pictures, where that is laid down."""


def read_calibration(paths: Sequence[Path], camera: Literal["color", "gray"] = "color") -> Calibration:
    """The rig that the files describe; `camera` is the pair of a KITTI rig. Raises ConfigError with a sentence."""
    texts = {path: _text(path) for path in paths}
    name = " and ".join(map(str, paths))
    kinds = {_kind(path, text) for path, text in texts.items()}
    if kinds == {"kitti"} and len(texts) == 1:
        return _kitti(name, _kitti_values(name, next(iter(texts.values()))), camera)
    if "kitti" in kinds:
        raise ConfigError(f"{name}: one KITTI calib file is expected, or files of OpenCV only")
    values: dict[str, Any] = {}
    for path, text in texts.items():
        values.update(_xml_values(path, text) if text.lstrip().startswith("<") else _yaml_values(path, text))
    return _opencv(name, {re.sub(r"[_\- ]", "", key).lower(): value for key, value in values.items()})


def _text(path: Path) -> str:
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: the calibration cannot be read: {error.strerror or error}") from error
    if not data.strip():
        raise ConfigError(f"{path}: expected a stereo calibration, the file is empty")
    if len(data) > MAX_BYTES or b"\0" in data:
        raise ConfigError(f"{path}: expected a stereo calibration, a text of at most {MAX_BYTES >> 10} kB")
    return data.decode("utf-8", "replace")


def _kind(path: Path, text: str) -> Literal["opencv", "kitti"]:
    if text.lstrip().startswith(("%YAML", "<")) or "opencv-matrix" in text:
        return "opencv"
    if re.search(r"(?m)^\s*(P\d|P_rect_0\d|K_0\d|S_0\d|calib_time)\s*:", text):
        return "kitti"
    raise ConfigError(
        f"{path}: expected a stereo calibration as OpenCV writes it (YAML or XML) or a KITTI calib file, "
        f"the file begins with {text.strip().splitlines()[0][:40]!r}"
    )


# OpenCV


class _Loader(yaml.SafeLoader):
    """Knows what OpenCV's tag stands for."""

    def matrix(self, node: yaml.MappingNode) -> dict[Any, Any]:
        """rows, cols, dt and data by their names."""
        return self.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", _Loader.matrix)


def _yaml_values(path: Path, text: str) -> dict[str, Any]:
    body = re.sub(r"\A\s*%YAML[^\n]*\n", "", text)  # OpenCV's directive is not what YAML allows
    try:
        found = yaml.load(body, _Loader)  # noqa: S506 - a SafeLoader with one more kind of mapping
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 2}: " if mark else ""
        what = getattr(error, "problem", None) or "it is damaged"
        raise ConfigError(f"{path}: {line}this is no YAML of OpenCV ({what})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: expected names with matrices, found {type(found).__name__}")
    return {str(key): value for key, value in found.items()}


def _xml_values(path: Path, text: str) -> dict[str, Any]:
    if "<!" in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL):
        raise ConfigError(f"{path}: a calibration declares no entities, expected XML as OpenCV writes it")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, RecursionError) as error:
        raise ConfigError(f"{path}: this is no XML of OpenCV ({error})") from error
    if root.tag != "opencv_storage":
        raise ConfigError(f"{path}: expected <opencv_storage>, found <{root.tag[:40]}>")
    return {element.tag: _xml_value(element) for element in root}


def _xml_value(element: ElementTree.Element) -> Any:
    if len(element):
        inner = {child.tag: (child.text or "").split() for child in element}
        return {tag: words if tag == "data" else " ".join(words) for tag, words in inner.items()}
    words = (element.text or "").split()
    return words if len(words) > 1 else " ".join(words)


def _opencv(name: str, values: Mapping[str, Any]) -> Calibration:
    size = _stated_size(name, values)
    lenses: dict[View, Lens] = {}
    for number, view in ((1, "left"), (2, "right")):
        given = {letter: _named(values, letter, number, view) for letter in _NAMES}
        missing = [f"{letter}{number}" for letter in "MD" if given[letter] is None]
        if missing:
            has = ", ".join(list(values)[:12]) or "nothing"
            raise ConfigError(f"{name}: {' and '.join(missing)} of the {view} camera is missing, the file has {has}")
        lenses["left" if number == 1 else "right"] = Lens(
            as_camera_matrix(name, f"M{number}", given["M"]),
            as_distortion(name, f"D{number}", given["D"]),
            as_rotation(name, f"R{number}", given["R"]) if given["R"] is not None else None,
            as_projection(name, f"P{number}", given["P"]) if given["P"] is not None else None,
            size,
        )
    if all(lens.rotation is not None and lens.projection is not None for lens in lenses.values()):
        _check_baseline(name, lenses)
        return Calibration(name, lenses, rectified=size)
    missing = [letter for letter in "RT" if values.get(letter.lower()) is None]
    if missing:
        raise ConfigError(
            f"{name}: expected R and T between the cameras, or R1, P1, R2 and P2; {missing[0]} is missing"
        )
    rotation = as_rotation(name, "R", values["r"])
    translation = as_numbers(name, "T", values["t"], (3,))
    check_translation(name, translation)
    return Calibration(name, lenses, rotation, translation, size)


def _named(values: Mapping[str, Any], letter: str, number: int, view: str) -> Any:
    names = (name.format(number, side=view) for name in _NAMES[letter])
    return next((values[name] for name in names if values.get(name) is not None), None)


def _stated_size(name: str, values: Mapping[str, Any]) -> Size | None:
    found = values.get("imagesize", values.get("size"))
    if found is None:
        found = [values.get(f"image{side}", values.get(side)) for side in ("width", "height")]
        if found == [None, None]:
            return None
    return as_size(name, "the size of the pictures", found)


# KITTI


def _kitti_values(name: str, text: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _KITTI_LINE.fullmatch(line)
        if match:
            values[match[1]] = match[2].split()
        elif line.strip():
            raise ConfigError(f"{name}: line {number}: expected NAME: VALUES as KITTI writes it, found {line[:40]!r}")
    return values


def _kitti(name: str, values: Mapping[str, list[str]], camera: str) -> Calibration:
    numbers = _KITTI_CAMERAS[camera]
    wanted = [f"{kind}_{n}" for n in numbers.values() for kind in ("S", "K", "D", "S_rect", "R_rect", "P_rect")]
    missing = [key for key in wanted if key not in values]
    lensless = not any(key.startswith(("S_0", "K_", "D_")) for key in values)
    projections = [key for key in values if re.fullmatch(r"P\d|P_rect_0\d", key)]
    if lensless and projections:
        for key in projections:
            as_projection(name, key, values[key])
        return Calibration(name, {})
    if missing:
        raise ConfigError(f"{name}: {missing[0]} of the {camera} cameras is missing, the file has {', '.join(values)}")
    sizes = {n: as_size(name, f"S_rect_{n}", values[f"S_rect_{n}"]) for n in numbers.values()}
    if len(set(sizes.values())) > 1:
        raise ConfigError(
            f"{name}: S_rect of both cameras must be the same, found {' and '.join(map(str, sizes.values()))}"
        )
    lenses = {view: _kitti_lens(name, values, n) for view, n in numbers.items()}
    _check_baseline(name, lenses)
    return Calibration(name, lenses, rectified=next(iter(sizes.values())))


def _kitti_lens(name: str, values: Mapping[str, list[str]], n: str) -> Lens:
    return Lens(
        as_camera_matrix(name, f"K_{n}", values[f"K_{n}"]),
        as_distortion(name, f"D_{n}", values[f"D_{n}"]),
        as_rotation(name, f"R_rect_{n}", values[f"R_rect_{n}"]),
        as_projection(name, f"P_rect_{n}", values[f"P_rect_{n}"]),
        as_size(name, f"S_{n}", values[f"S_{n}"]),
    )


def _check_baseline(name: str, lenses: Mapping[View, Lens]) -> None:
    left, right = lenses["left"].projection, lenses["right"].projection
    if left is None or right is None:
        return
    shift = right[:2, 3] - left[:2, 3]
    if abs(shift[1]) > abs(shift[0]):
        raise ConfigError(f"{name}: the cameras stand above each other, expected them side by side")
    if shift[0] >= 0:
        raise ConfigError(f"{name}: the first camera is the right one, expected the left one; calibrate them exchanged")
