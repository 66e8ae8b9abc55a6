"""KITTI drives: raw recordings and odometry sequences, colour or grey."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.errors import SourceError
from pipeline.types import View
from stages.picture import SUFFIXES
from stages.sources.recorded import LAST_ID, FileTrack, Recorded
from stages.sources.times import read_lines, times_of_frames

__all__ = ["Kitti"]

FPS = 10.0
_CAMERA = {("color", "left"): 2, ("color", "right"): 3, ("gray", "left"): 0, ("gray", "right"): 1}


@dataclass(kw_only=True)
class Kitti(Recorded):
    """A KITTI drive: `image_02`, `image_03` (colour) or `image_00`, `image_01` (grey) with their times.

    Raw drives have `image_02/data/*.png` and `image_02/timestamps.txt`, odometry sequences `image_2/*.png` or the
    former layout, and `times.txt`. Without times the pictures are 0.1 s apart.
    """

    drive: Annotated[
        str, Field(min_length=1, description="folder of the drive or sequence, or a glob that matches one")
    ]
    camera: Annotated[
        Literal["color", "gray"] | None, Field(description="which pair of cameras; null: colour where there is one")
    ] = None

    def open_track(self, view: View) -> FileTrack:
        drive = _find_drive(self.drive)
        has_color = any(folder for number in (2, 3) for folder in _folders(drive, number))
        kind = self.camera or ("color" if has_color else "gray")
        number = _CAMERA[kind, view]
        folder = next(_folders(drive, number), None)
        if folder is None:
            wanted = [number] if self.camera or has_color else [_CAMERA["color", view], number]
            names = " or ".join(f"image_{n:02d}" for n in wanted)
            raise SourceError(f"{drive}: expected the {view} camera's pictures in {names}, found {_contents(drive)}")
        files = _numbered_pictures(folder)
        if not files:
            raise SourceError(f"{folder}: expected pictures such as 0000000000.png, found {_contents(folder)}")
        return FileTrack(files, self._times(drive, folder, sorted(files)))

    def _times(self, drive: Path, folder: Path, ids: list[int]) -> dict[int, int]:
        candidates = (folder.parent / "timestamps.txt", folder / "timestamps.txt", drive / "times.txt")
        path = next((p for p in candidates if p.is_file()), None)
        times, made_up = times_of_frames(read_lines(path) if path else [], ids, FPS)
        if path is None:
            self._context.log.info("%s has no times, its frames are taken to be %g s apart", drive, 1 / FPS)
        elif made_up:
            self._context.log.warning("%s lacks usable times for %d of %d frames, filled in", path, made_up, len(ids))
        return dict(zip(ids, times, strict=True))


def _find_drive(text: str) -> Path:
    drive = Path(text).expanduser()
    if drive.is_dir():
        return drive
    matches = sorted(p for p in glob.glob(str(drive)) if Path(p).is_dir()) if glob.has_magic(text) else []
    if len(matches) == 1:
        return Path(matches[0])
    if matches:
        raise SourceError(f"{text}: one source reads one drive, this matches {len(matches)}")
    if drive.exists():
        raise SourceError(f"{drive}: expected the folder of a drive, found a file")
    near = next(p for p in (drive, *drive.absolute().parents) if p.is_dir())
    raise SourceError(f"{text}: there is no such drive ({near} has {_contents(near)})")


def _folders(drive: Path, number: int) -> Iterator[Path]:
    """The folders that may hold the pictures of a camera, the most specific first."""
    names = (f"image_{number:02d}/data", f"image_{number:02d}", f"image_{number}/data", f"image_{number}")
    return (drive / name for name in names if (drive / name).is_dir())


def _numbered_pictures(folder: Path) -> dict[int, Path]:
    files: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or not (path.stem.isascii() and path.stem.isdecimal()):
            continue
        number = int(path.stem[-18:])
        if number > LAST_ID:
            raise SourceError(f"{path}: a frame number beyond {LAST_ID}")
        if number in files:
            raise SourceError(f"{folder}: {files[number].name} and {path.name} have the same frame number")
        files[number] = path
    return files


def _contents(folder: Path, most: int = 6) -> str:
    names = sorted(p.name for p in folder.iterdir())
    if not names:
        return "nothing"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
