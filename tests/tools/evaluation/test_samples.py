"""Which pictures are taken, and which side views come with them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import SourceError
from tools.evaluation.samples import DataSet, Selection, Side, read_data_sets


def read(folder: Path, *sides: Side, limit: int | None = None) -> tuple[DataSet, Selection]:
    selection = Selection("full", sides or (Side(),), limit=limit)
    (data,) = read_data_sets([folder], selection)
    return data, selection


def test_samples_are_in_order_and_named(drives: Path) -> None:
    data, _ = read(drives)
    assert data.name == "made_up"
    assert [s.image for s in data.samples] == [f"seq{s:02}/{f:010}" for s in (0, 1) for f in range(3)]
    single, _ = read(drives / "seq01")
    assert [s.image for s in single.samples] == [f"{f:010}" for f in range(3)]


def test_a_limit_is_spread(drives: Path) -> None:
    data, _ = read(drives, limit=3)
    assert [s.image[:5] + s.image[-1] for s in data.samples] == ["seq000", "seq002", "seq012"]


def test_side_views_are_those_asked_for(drives: Path) -> None:
    sides = (Side(), Side("paired", 1), Side("none"), Side("wrong"))
    data, selection = read(drives, *sides)
    assert [s.image[-1] for s in data.samples] == ["1", "2", "1", "2"], "the first has no older side view"
    assert data.left_out == 2
    first, third = data.samples[0].load(selection), data.samples[2].load(selection)
    raw = {f: cv2.imread(str(drives / f"seq00/image_03/data/{f:010}.png"))[..., ::-1] for f in (0, 1)}
    assert np.array_equal(first.sides[sides[0]], raw[1])
    assert np.array_equal(first.sides[sides[1]], raw[0])
    assert first.sides[sides[2]] is None
    assert np.array_equal(first.sides[sides[3]], third.sides[sides[0]]), "half the list on, of another scene"


def test_a_wrong_side_view_of_another_size_is_brought_to_this_one(tmp_path: Path) -> None:
    for name, width in (("a", 40), ("b", 60)):
        for view in ("left", "right"):
            path = tmp_path / "set" / name / view / "0.png"
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), np.zeros((30, width, 3), np.uint8))
    data, selection = read(tmp_path / "set", Side("wrong"))
    wrong = data.samples[0].load(selection).sides[Side("wrong")]
    assert wrong is not None
    assert wrong.shape == (30, 40, 3)


def test_views_of_different_sizes_are_one_sentence(tmp_path: Path) -> None:
    for view, width in (("left", 40), ("right", 42)):
        (tmp_path / "set" / view).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set" / view / "x.png"), np.zeros((30, width, 3), np.uint8))
    data, selection = read(tmp_path / "set")
    with pytest.raises(SourceError, match=r"set, x: the primary view is 40x30 and the side view 42x30"):
        data.samples[0].load(selection)


def test_sides_that_do_not_exist_are_one_sentence(drives: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no picture has a side view that is 3 frames older"):
        read(drives, Side("paired", 3))
    for view in ("left", "right"):
        (tmp_path / view).mkdir()
        cv2.imwrite(str(tmp_path / view / "x.png"), np.zeros((30, 40, 3), np.uint8))
    with pytest.raises(SourceError, match="only one picture"):
        read(tmp_path, Side("wrong"))


def test_folders_that_are_called_alike_get_their_parents_names(drives: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "made_up"
    other.parent.mkdir()
    other.symlink_to(drives)
    names = [data.name for data in read_data_sets([drives, other], Selection("full"))]
    assert names == [f"{drives.parent.name}/made_up", "elsewhere/made_up"]
