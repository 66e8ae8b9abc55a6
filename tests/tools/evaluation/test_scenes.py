"""What is found in a folder, and what is said where nothing is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import SourceError
from tools.evaluation.scenes import listed_scene, scenes_of


def picture(path: Path, level: int = 90) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 30, 3), level, np.uint8))
    return path.name


def test_drives_below_a_folder_are_scenes(drives: Path) -> None:
    scenes = scenes_of(drives)
    assert [(s.name, s.frames(), s.sequence) for s in scenes] == [
        ("seq00", [0, 1, 2], True),
        ("seq01", [0, 1, 2], True),
    ]
    assert scenes[0].names[2] == "0000000002"


def test_a_drive_is_a_scene_of_its_own_name(drives: Path) -> None:
    (scene,) = scenes_of(drives / "seq01")
    assert scene.name == "seq01"


def test_raw_drives_lie_below_their_date(tmp_path: Path) -> None:
    for camera in ("image_02", "image_03"):
        picture(tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync" / camera / "data" / "0000000007.png")
    (scene,) = scenes_of(tmp_path, patterns=["*drive_0001*"])
    assert (scene.name, scene.frames()) == ("2011_09_26/2011_09_26_drive_0001_sync", [7])


def test_scenes_are_chosen_by_pattern(drives: Path) -> None:
    assert [scene.name for scene in scenes_of(drives, patterns=["seq*1"])] == ["seq01"]


def test_the_right_view_as_primary_is_mirrored(drives: Path) -> None:
    left, right = scenes_of(drives)[0], scenes_of(drives, view="right")[0]
    assert not left.mirrored
    assert right.mirrored == {0, 1, 2}
    assert np.array_equal(left.primary[1].load(), right.side[1].load())


def test_stills_pair_by_name(tmp_path: Path) -> None:
    for name in ("left/b.png", "left/a.png", "right/a.png", "right/c.png"):
        picture(tmp_path / name)
    (scene,) = scenes_of(tmp_path)
    assert [scene.names[frame] for frame in scene.frames()] == ["a"]
    assert not scene.sequence


def test_cities_are_scenes_that_are_not_cropped(tmp_path: Path) -> None:
    for kind, level in (("leftImg8bit", 10), ("rightImg8bit", 20)):
        for city in ("aachen", "bonn"):
            picture(tmp_path / kind / "val" / city / f"{city}_000001_000019_{kind}.png", level)
    aachen, bonn = scenes_of(tmp_path)
    assert (aachen.name, bonn.name) == ("val/aachen", "val/bonn")
    assert aachen.names[0] == "aachen_000001_000019"
    assert not aachen.crop
    assert (aachen.primary[0].load()[0, 0, 0], aachen.side[0].load()[0, 0, 0]) == (10, 20)


def test_a_list_names_primary_and_side_in_turn(tmp_path: Path) -> None:
    names = [f"training/image_{camera}/000000_1{i}.png" for i in (0, 1) for camera in (2, 3)]
    names[2:] = reversed(names[2:])
    for level, name in enumerate(names):
        picture(tmp_path / name, level)
    listing = tmp_path / "KITTI_stereo_val.txt"
    listing.write_text("\n".join(names) + "\n\n")
    scene = listed_scene(tmp_path, listing)
    assert scene.name == "KITTI_stereo_val"
    assert [scene.names[frame] for frame in scene.frames()] == names[::2]
    assert [scene.side[frame].load()[0, 0, 0] for frame in scene.frames()] == [1, 3]
    assert scene.mirrored == {1}, "its primary view is the right camera's"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "found 0 lines"), ("a.png\nb.png\nc.png\n", "found 3 lines"), ("a.png\nb.png\n", "2 of the 2 pictures")],
)
def test_a_list_that_can_not_be_used_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(SourceError, match=sentence):
        listed_scene(tmp_path, tmp_path / "list.txt")


def test_what_is_no_data_set_is_one_sentence(tmp_path: Path, drives: Path) -> None:
    with pytest.raises(SourceError, match="found nothing at"):
        scenes_of(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="expected drives"):
        scenes_of(tmp_path)
    with pytest.raises(SourceError, match=r"no scene is called seq7 .there are: seq00, seq01"):
        scenes_of(drives, patterns=["seq7"])
    picture(tmp_path / "left" / "a.png")
    picture(tmp_path / "right" / "b.png")
    with pytest.raises(SourceError, match="no picture is there in both views"):
        scenes_of(tmp_path)
