"""Which pictures are coded, and which side views each of them is decoded with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from pipeline.errors import SourceError
from pipeline.types import Pixels, View
from stages.picture import resize
from tools.evaluation.preprocess import Preprocess, prepared
from tools.evaluation.scenes import Scene, listed_scene, scenes_of

__all__ = [
    "SIDE_KINDS",
    "DataSet",
    "Loaded",
    "Sample",
    "Selection",
    "Side",
    "SideKind",
    "read_data_sets",
]

SideKind = Literal["paired", "none", "wrong"]
SIDE_KINDS: tuple[SideKind, ...] = get_args(SideKind)


@dataclass(frozen=True, slots=True)
class Side:
    """The side information that a decoder gets."""

    kind: SideKind = "paired"
    """none: no side view. wrong: that of another scene."""
    older: int = 0
    """By how many frames the side view is older than the primary view."""

    @property
    def suffix(self) -> str:
        """What the name of a codec gets appended: nothing where the side view is the one that belongs to it."""
        if self.kind != "paired":
            return f" (side {self.kind})"
        return f" (side -{self.older})" if self.older else ""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is taken of a data set, and how."""

    preprocess: Preprocess
    sides: tuple[Side, ...] = (Side(),)
    view: View = "left"
    """The primary view."""
    scenes: tuple[str, ...] = ()
    """Patterns of scene names; empty for all."""
    pairs: Path | None = None
    """A list of pairs that replaces what the folder holds otherwise."""
    limit: int | None = None
    """At most so many pictures, evenly spread."""

    @property
    def oldest(self) -> int:
        """By how many frames the oldest side view is older."""
        return max(side.older for side in self.sides)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """One picture and the side views that it is decoded with; all of one size."""

    primary: Pixels
    sides: dict[Side, Pixels | None]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One picture of the primary view, not read yet."""

    data: str
    scene: Scene
    frame: int
    wrong: Sample | None = None
    """The sample whose side view serves as the wrong one."""

    @property
    def image(self) -> str:
        """The picture's name within its data set."""
        name = self.scene.names[self.frame]
        return name if self.scene.name == self.data.rsplit("/", 1)[-1] else f"{self.scene.name}/{name}"

    def load(self, selection: Selection) -> Loaded:
        """Read and prepare. SourceError where a picture can't be read or the views of the pair differ in size."""
        first, second = self.scene.primary[self.frame].load(), self.scene.side[self.frame].load()
        if first.shape != second.shape:
            sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (first, second)]
            raise SourceError(
                f"{self.data}, {self.image}: the primary view is {sizes[0]} and the side view {sizes[1]}, "
                "expected one size for both views of a pair"
            )
        primary = self._prepared(first, selection.preprocess)
        size = (primary.shape[1], primary.shape[0])
        sides = {side: self._side(side, selection.preprocess) for side in selection.sides}
        return Loaded(primary, {s: None if p is None else resize(p, size) for s, p in sides.items()})

    def _side(self, side: Side, how: Preprocess) -> Pixels | None:
        match side.kind:
            case "none":
                return None
            case "wrong" if self.wrong is not None:
                return self.wrong._side(Side(), how)
            case _:
                return self._prepared(self.scene.side[self.frame - side.older].load(), how)

    def _prepared(self, pixels: Pixels, how: Preprocess) -> Pixels:
        return prepared(pixels, how, crop=self.scene.crop, mirrored=self.frame in self.scene.mirrored)


@dataclass(frozen=True, slots=True)
class DataSet:
    """What is averaged over: the samples of one folder."""

    name: str
    samples: list[Sample]
    left_out: int = 0
    """Pictures that are not compared because they lack a side view as old as the oldest one wanted."""


def read_data_sets(folders: Sequence[Path], selection: Selection) -> list[DataSet]:
    """A data set for each folder, called like it, or with its parent's name where two are called alike."""
    names = Counter(folder.absolute().name for folder in dict.fromkeys(folders))

    def name_of(folder: Path) -> str:
        path = folder.absolute()
        return path.name if names[path.name] == 1 else f"{path.parent.name}/{path.name}"

    return [_read_data_set(folder, selection, name_of(folder)) for folder in dict.fromkeys(folders)]


def _read_data_set(folder: Path, selection: Selection, name: str) -> DataSet:
    """The samples of a folder, in order of scene and frame. SourceError, in one sentence, where there are none.

    Where side views are to be older, only pictures that have all of them are taken, so that all ages are compared on
    the same pictures.
    """
    if selection.pairs is not None:
        scenes = [listed_scene(folder, selection.pairs)]
    else:
        scenes = scenes_of(folder, selection.view, selection.scenes)
    everything = [Sample(name, scene, frame) for scene in scenes for frame in scene.frames()]
    samples = [sample for sample in everything if _has(sample, selection)]
    if not samples:
        raise SourceError(
            f"{folder}: no picture has a side view that is {selection.oldest} frames older, "
            "expected drives that are longer (of other pictures nobody knows the order)"
        )
    left_out = len(everything) - len(samples)
    if any(side.kind == "wrong" for side in selection.sides):
        samples = [replace(sample, wrong=_wrong(samples, i)) for i, sample in enumerate(samples)]
    return DataSet(name, _spread(samples, selection.limit), left_out)


def _has(sample: Sample, selection: Selection) -> bool:
    ages = [side.older for side in selection.sides if side.older]
    return not ages or (sample.scene.sequence and all(sample.frame - age in sample.scene.side for age in ages))


def _wrong(samples: Sequence[Sample], index: int) -> Sample:
    """The sample half the data set further on, or the next after it that is of another scene where there is one."""
    order = [samples[(index + len(samples) // 2 + step) % len(samples)] for step in range(len(samples))]
    here = samples[index]
    elsewhere = (sample for sample in order if sample.scene is not here.scene)
    found = next(elsewhere, order[0])
    if found is here:
        raise SourceError(f"{here.data}: there is only one picture, so no wrong side view for it")
    return found


def _spread(samples: list[Sample], limit: int | None) -> list[Sample]:
    if limit is None or limit >= len(samples):
        return samples
    chosen = np.linspace(0, len(samples) - 1, limit).round().astype(int)
    return [samples[i] for i in chosen]
