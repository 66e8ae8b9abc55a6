"""The stereo pictures of a folder: drives, left and right folders, Cityscapes, or the pairs of a list.

A scene is one recording or one folder of stills; its pictures share a place, so the side view of another scene tells a
decoder nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from pipeline.errors import SourceError
from pipeline.stage import Context
from pipeline.types import Pixels, View, other_view
from stages.picture import SUFFIXES, read_picture
from stages.sources.kitti import Kitti
from stages.sources.recorded import Shot

__all__ = ["Scene", "listed_scene", "scenes_of"]

DRIVE_FOLDERS = ("image_02", "image_2", "image_00", "image_0")
QUIET = logging.getLogger("sidecast.evaluate")
"""What a source says about times is of no interest here."""
QUIET.setLevel(logging.ERROR)
RIGHT_FOLDERS = frozenset(("image_03", "image_3", "image_01", "image_1", "right", "rightImg8bit"))
CITYSCAPES = ("leftImg8bit", "rightImg8bit")
DEEPEST = 3
"""How far below a data folder drives are looked for: KITTI raw has DATE/DRIVE, odometry `sequences/NN`."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Pictures of one place in both views, by frame id."""

    name: str
    primary: Mapping[int, Shot]
    side: Mapping[int, Shot]
    names: Mapping[int, str]
    """What each picture of the primary view is called."""
    sequence: bool = False
    """Whether frame ids count through time, so that an older side view exists."""
    crop: bool = True
    """Whether the papers crop its pictures before they shrink them (Cityscapes: no)."""
    mirrored: frozenset[int] = frozenset()
    """Frames whose primary view is the right one: mirrored in both views, they look to a codec as the left one does."""

    def frames(self) -> list[int]:
        """The frames that both views have."""
        return sorted(self.primary.keys() & self.side.keys())


def scenes_of(folder: Path, view: View = "left", patterns: Sequence[str] = ()) -> list[Scene]:
    """Every scene in or below a folder, by name; `view` is the primary one.

    `patterns` choose scenes by name (`seq04`, `2011_09_26_drive_*`). SourceError, in one sentence, where there is no
    such folder, no scene, or no picture that both views have.
    """
    if not folder.is_dir():
        raise SourceError(
            f"expected a folder of stereo pictures, found {'a file' if folder.exists() else 'nothing'} at {folder}"
        )
    found = [(_name(place, folder), place) for place in _places(folder, DEEPEST)]
    if not found:
        raise SourceError(
            f"{folder}: expected drives (image_02, image_03), left/ and right/, or {'/ and '.join(CITYSCAPES)}/, "
            f"found none of them"
        )
    chosen = [(name, place) for name, place in found if not patterns or _matches(name, patterns)]
    if not chosen:
        known = ", ".join(name for name, _ in found)
        raise SourceError(f"{folder}: no scene is called {' or '.join(patterns)} (there are: {known})")
    scenes = [scene for name, place in chosen for scene in _read(name, place, view)]
    if not any(scene.frames() for scene in scenes):
        raise SourceError(f"{folder}: no picture is there in both views")
    return [scene for scene in scenes if scene.frames()]


def listed_scene(root: Path, pairs: Path) -> Scene:
    """The pairs of a list as the papers publish them: two lines a pair, primary view first, paths relative to `root`.

    SourceError where the list is empty, odd, or names a picture that is not there.
    """
    try:
        lines = [line.strip() for line in pairs.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"the list of pairs {pairs} can't be read: {error}") from error
    if not lines or len(lines) % 2:
        raise SourceError(f"{pairs}: expected two lines a pair, primary view first, found {len(lines)} lines")
    missing = [line for line in lines if not (root / line).is_file()]
    if missing:
        raise SourceError(
            f"{root}: {len(missing)} of the {len(lines)} pictures of {pairs} are missing, first {missing[0]}"
        )
    rows = [(first, root / first, root / second) for first, second in zip(lines[::2], lines[1::2], strict=True)]
    return _of_files(pairs.stem, rows)


def _places(folder: Path, depth: int) -> Iterator[Path]:
    """The folders that hold scenes, sorted."""
    if _is_drive(folder) or _is_stills(folder) or _is_cityscapes(folder):
        yield folder
    elif depth:
        for below in sorted(p for p in folder.iterdir() if p.is_dir()):
            yield from _places(below, depth - 1)


def _is_drive(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in DRIVE_FOLDERS)


def _is_stills(folder: Path) -> bool:
    return (folder / "left").is_dir() and (folder / "right").is_dir()


def _is_cityscapes(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in CITYSCAPES)


def _name(place: Path, folder: Path) -> str:
    return place.name if place == folder else place.relative_to(folder).as_posix()


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(text, pattern) for pattern in patterns for text in (name, name.rsplit("/", 1)[-1]))


def _read(name: str, place: Path, view: View) -> list[Scene]:
    if _is_drive(place):
        return [_drive(name, place, view)]
    if _is_stills(place):
        return [_stills(name, place, view)]
    return _cities(place, view)


def _drive(name: str, folder: Path, view: View) -> Scene:
    source = Kitti(drive=str(folder), view=view, pace="fast")
    source.open(Context(node="evaluate", out=Path(), log=QUIET))
    primary, side = ({shot.frame_id: shot for shot in source.open_track(v).shots()} for v in (view, other_view(view)))
    source.close()
    names = {frame: f"{frame:010d}" for frame in primary}
    return Scene(name, primary, side, names, sequence=True, mirrored=frozenset(primary if view == "right" else ()))


def _stills(name: str, folder: Path, view: View) -> Scene:
    primary, side = (_pictures(folder / v) for v in (view, other_view(view)))
    return _of_files(name, [(stem, primary[stem], side[stem]) for stem in sorted(primary.keys() & side.keys())])


def _cities(folder: Path, view: View) -> list[Scene]:
    """One scene per city, as their videos are taken in different ones."""
    kinds = CITYSCAPES if view == "left" else CITYSCAPES[::-1]
    rows: dict[str, list[tuple[str, Path, Path]]] = {}
    for first in sorted((folder / kinds[0]).rglob(f"*_{kinds[0]}.png")):
        place = first.parent.relative_to(folder / kinds[0])
        stem = first.name.removesuffix(f"_{kinds[0]}.png")
        second = folder / kinds[1] / place / f"{stem}_{kinds[1]}.png"
        if second.is_file():
            rows.setdefault(place.as_posix(), []).append((stem, first, second))
    return [_of_files(city, pairs, crop=False) for city, pairs in rows.items()]


def _of_files(name: str, rows: Sequence[tuple[str, Path, Path]], *, crop: bool = True) -> Scene:
    """A scene of stills from (name, primary view's file, side view's file)."""
    primary = {i: _shot(i, first) for i, (_, first, _) in enumerate(rows)}
    side = {i: _shot(i, second) for i, (_, _, second) in enumerate(rows)}
    mirrored = frozenset(i for i, (_, first, _) in enumerate(rows) if RIGHT_FOLDERS & set(first.parts[-4:-1]))
    return Scene(name, primary, side, {i: row[0] for i, row in enumerate(rows)}, crop=crop, mirrored=mirrored)


def _shot(frame: int, path: Path) -> Shot:
    load: partial[Pixels] = partial(read_picture, path)
    return Shot(frame, 0, load)


def _pictures(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
