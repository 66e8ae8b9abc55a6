from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from pipeline.errors import SourceError
from pipeline.stage import Context
from pipeline.types import Frame
from stages.picture import encode_jpeg, encode_png
from stages.sources.images import Images

GREY = np.full((16, 24, 3), 99, np.uint8)


def folder(path: Path, names: list[str]) -> str:
    path.mkdir(exist_ok=True)
    for name in names:
        (path / name).write_bytes(encode_png(GREY) if name.endswith(".png") else encode_jpeg(GREY))
    return str(path)


def read(**fields: Any) -> list[Frame]:
    source = TypeAdapter(Images).validate_python({"pace": "fast", **fields})
    source.open(Context("encoder", Path()))
    found = [f for f in source.read() if isinstance(f, Frame)]
    source.close()
    return found


def ids(found: list[Frame]) -> list[tuple[str, int]]:
    return [(f.role, f.frame_id) for f in found]


def test_numbers_in_names_are_the_frame_ids(tmp_path: Path) -> None:
    left = folder(tmp_path / "l", ["a10.png", "a9.jpg", "a2.png"])
    found = read(left=left, fps=4)
    assert ids(found) == [("primary", 2), ("primary", 9), ("primary", 10)]
    assert [f.pts_ns for f in found] == [500_000_000, 2_250_000_000, 2_500_000_000]


def test_equal_names_are_pairs_where_numbers_repeat(tmp_path: Path) -> None:
    left = folder(tmp_path / "l", ["beach_1.png", "street_1.png", "wood_1.png"])
    right = folder(tmp_path / "r", ["beach_1.jpg", "wood_1.png"])
    found = read(left=left, right=right, with_side=True)
    assert ids(found) == [("primary", 0), ("side", 0), ("primary", 1), ("primary", 2), ("side", 2)]


def test_names_without_numbers_are_counted_in_natural_order(tmp_path: Path) -> None:
    assert ids(read(left=folder(tmp_path / "l", ["b.png", "a.png"]))) == [("primary", 0), ("primary", 1)]


def test_numbers_too_large_for_a_frame_id_are_counted(tmp_path: Path) -> None:
    assert ids(read(left=folder(tmp_path / "l", ["1403636579763555584.png", "1403636579813555456.png"]))) == [
        ("primary", 0),
        ("primary", 1),
    ]


def test_globs_choose_the_view(tmp_path: Path) -> None:
    both = folder(tmp_path / "b", ["1_left.png", "1_right.png", "2_left.png", "2_right.png"])
    found = read(left=f"{both}/*_left.png", right=f"{both}/*_right.png", with_side=True)
    assert ids(found) == [("primary", 1), ("side", 1), ("primary", 2), ("side", 2)]


def test_a_missing_or_empty_folder_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "e"
    empty.mkdir()
    (empty / "notes.txt").touch()
    twice = folder(tmp_path / "t", ["1.png", "1.jpg"])
    for fields, sentence in (
        ({"left": str(tmp_path / "gone")}, "expected a folder or a glob of pictures, found nothing"),
        ({"left": str(empty)}, "found none among 1 files"),
        ({"left": str(tmp_path / "*.png")}, "found none among 0 files"),
        ({"left": twice}, "have the same name"),
        ({"right": twice}, "`left` names no folder"),
    ):
        with pytest.raises(SourceError, match=sentence):
            read(**fields)


def test_real_unsynchronised_pairs(data: Path) -> None:
    sets = data / "kitti_unsync_color"
    found = read(left=str(sets / "left"), right=str(sets / "right"), with_side=True, size=[64, 32])
    assert [f.role for f in found] == ["primary", "side"] * 12
    assert found[0].frame_id == found[1].frame_id == 26


def test_real_stills_of_many_sizes(data: Path) -> None:
    sets = data / "stereo_stills_misc"
    with pytest.raises(SourceError, match="give the source a `size`"):
        read(left=str(sets / "left"))
    assert len(read(left=str(sets / "left"), size=[64, 32])) == 13
