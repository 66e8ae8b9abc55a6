"""The pictures that training and validation use, read once and kept in memory as uint8."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import SourceError
from pipeline.types import Pixels

__all__ = ["Library", "Pair", "read_library"]

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".pgm", ".ppm"}


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A left and a right picture of one scene; `sequence` names the recording, `number` the place in it."""

    left: Pixels
    right: Pixels
    sequence: str
    number: int


@dataclass(slots=True)
class Library:
    """Everything to draw from."""

    pairs: list[Pair] = field(default_factory=list)
    """Training pairs in colour at full size."""
    coarse: list[Pair] = field(default_factory=list)
    """Training pairs whose fine detail is damaged (lossy video): for small scales only."""
    singles: list[Pixels] = field(default_factory=list)
    """Training photographs without a partner."""
    validation: dict[str, list[Pair]] = field(default_factory=dict)
    """Scenes that are never trained on, by set."""


def read_library(root: Path, held_out: tuple[str, ...]) -> Library:
    """Read all sets below `root`: drives, left/right folders, clips with *_frames.csv, folders of single pictures.

    `held_out` are glob patterns of drives or pictures, relative to `root`, that only validation sees.
    Raises SourceError where there is nothing to train on.
    """
    library = Library()
    if not root.is_dir():
        raise SourceError(f"expected a folder of training data, found nothing at {root}")
    held = {path for pattern in held_out for path in root.glob(pattern)}
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        _read_set(folder, held, library)
    if not library.pairs and not library.singles:
        raise SourceError(f"there are no stereo drives, left/right folders or pictures in {root}")
    return library


def _read_set(folder: Path, held: set[Path], library: Library) -> None:
    drives = sorted(
        {p.parent for p in folder.glob("*/image_02")} | ({folder} if (folder / "image_02").is_dir() else set())
    )
    for drive in drives:
        _sort_in(list(_drive_pairs(drive)), drive in held, folder.name, library)
    if (folder / "left").is_dir() and (folder / "right").is_dir():
        for pair, path in _still_pairs(folder):
            _sort_in([pair], path in held, folder.name, library)
    elif (folder / "left_frames.csv").is_file():
        library.coarse.extend(_clip_pairs(folder))
    elif not drives:
        pictures = (_read(p) for p in sorted(folder.rglob("*")) if p.suffix.lower() in PICTURES)
        library.singles.extend(p for p in pictures if min(p.shape[:2]) >= 200)


def _sort_in(pairs: list[Pair], held_out: bool, name: str, library: Library) -> None:
    if held_out:
        library.validation.setdefault(name, []).extend(pairs)
    else:
        library.pairs.extend(pairs)


def _drive_pairs(drive: Path) -> Iterator[Pair]:
    for left in sorted((drive / "image_02").rglob("*.png")):
        right = drive / "image_03" / left.relative_to(drive / "image_02")
        if right.is_file():
            yield Pair(_read(left), _read(right), str(drive), int(left.stem))


def _still_pairs(folder: Path) -> Iterator[tuple[Pair, Path]]:
    for number, left in enumerate(sorted((folder / "left").iterdir())):
        right = folder / "right" / left.name
        if left.suffix.lower() in PICTURES and right.is_file():
            a, b = _read(left), _read(right)
            if a.shape == b.shape:
                yield Pair(a, b, str(left), number), left


def _clip_pairs(folder: Path) -> Iterator[Pair]:
    views = [_clip(folder / f"{view}.mp4", folder / f"{view}_frames.csv") for view in ("left", "right")]
    for index in sorted(views[0].keys() & views[1].keys()):
        yield Pair(views[0][index], views[1][index], str(folder), index)


def _clip(video: Path, table: Path) -> dict[int, Pixels]:
    """The frames of a clip by the frame index in its table (the column that names KITTI's index)."""
    with table.open(newline="") as f:
        rows = list(csv.DictReader(f))
    column = next(c for c in rows[0] if "kitti" in c.lower() or "index" in c.lower())
    capture = cv2.VideoCapture(str(video))
    frames = {}
    for row in rows:
        ok, picture = capture.read()
        if not ok:
            break
        frames[int(row[column])] = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    capture.release()
    return frames


def _read(path: Path) -> Pixels:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SourceError(f"expected a picture, found something unreadable at {path}")
    return np.ascontiguousarray(picture[..., ::-1])
