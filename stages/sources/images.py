"""Picture files: two folders or globs, one per view; pictures of the same name belong together."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.errors import SourceError
from pipeline.types import View
from stages.picture import SUFFIXES
from stages.sources.recorded import LAST_ID, FileTrack, Recorded

__all__ = ["Images"]


@dataclass(kw_only=True)
class Images(Recorded):
    """Two folders or globs of PNG and JPEG files, in natural order.

    frame_id is the last number in the name where all have one and it is distinct, else a counter over the names.
    """

    left: Annotated[str | None, Field(description="folder or glob of the left view's pictures")] = None
    right: Annotated[str | None, Field(description="folder or glob of the right view's pictures")] = None
    fps: Annotated[float, Field(gt=0, le=1000, description="frames per second: the times are frame_id / fps")] = 10.0

    def open_track(self, view: View) -> FileTrack:
        if getattr(self, view) is None:
            raise SourceError(f"images: the {view} view is wanted, but `{view}` names no folder")
        found = {name: _find(text) for name in ("left", "right") if (text := getattr(self, name)) is not None}
        ids = _frame_ids([list(files) for files in found.values()])
        files = {ids[stem]: path for stem, path in found[view].items()}
        return FileTrack(files, {i: round(i / self.fps * 1e9) for i in files})


def _find(text: str) -> dict[str, Path]:
    """The pictures of a folder or glob by their names without suffix, in natural order."""
    folder = Path(text).expanduser()
    if folder.is_dir():
        paths = list(folder.iterdir())
    elif glob.has_magic(text):
        paths = [Path(p) for p in glob.glob(str(folder))]
    else:
        raise SourceError(
            f"{text}: expected a folder or a glob of pictures, found {'a file' * folder.is_file() or 'nothing'}"
        )
    files: dict[str, Path] = {}
    for path in sorted((p for p in paths if p.suffix.lower() in SUFFIXES), key=lambda p: _natural(p.name)):
        if path.stem in files:
            raise SourceError(f"{text}: {files[path.stem].name} and {path.name} have the same name")
        files[path.stem] = path
    if not files:
        raise SourceError(f"{text}: expected pictures ({', '.join(SUFFIXES)}), found none among {len(paths)} files")
    return files


def _frame_ids(views: list[list[str]]) -> dict[str, int]:
    """frame_id by name, the same for the same name in both views."""
    numbers = [{stem: _number(stem) for stem in stems} for stems in views]
    if all(-1 not in of.values() and len(set(of.values())) == len(of) for of in numbers):
        return {stem: number for of in numbers for stem, number in of.items()}
    names = sorted({stem for stems in views for stem in stems}, key=_natural)
    return {stem: position for position, stem in enumerate(names)}


def _number(stem: str) -> int:
    digits = re.findall(r"[0-9]+", stem)
    number = int(digits[-1][-18:]) if digits else -1
    return number if number <= LAST_ID else -1


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(p[-18:]), "") if p[0].isdecimal() else (-1, p.lower()) for p in parts], name
