"""Rectification: rows that correspond, wherever a view is; pictures that the calibration is not for."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter
from rig import Rig, row_differences

from pipeline.errors import ConfigError, StageError
from pipeline.stage import Context
from pipeline.types import Frame, Packet, Pixels, StereoPair, View
from stages.picture import encode_png, read_picture
from stages.rectify import Rectified, Rectify
from stages.sources.kitti import Kitti


def frame(pixels: Pixels, view: View = "left", frame_id: int = 0) -> Frame:
    return Frame(pixels, view, frame_id, frame_id * 10**8, 0)


def opened(context: Context, calibration: Path, **fields: object) -> Rectify:
    stage = TypeAdapter(Rectify).validate_python({"calibration": str(calibration), **fields})
    stage.open(context)
    return stage


def passed(stage: Rectify, item: object) -> Frame:
    (out,) = stage.process(item)
    return out


@pytest.fixture(scope="module")
def drive(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rig]:
    """A pair of a KITTI drive as a rig that is not rectified would have taken it, and one picture more of the right."""
    source, folder = data / "kitti_odom_color" / "seq04", tmp_path_factory.mktemp("taken") / "drive"
    for camera, view, count in (("02", "left", 1), ("03", "right", 2)):
        target = folder / f"image_{camera}" / "data"
        target.mkdir(parents=True)
        for i in range(count):
            pixels = read_picture(source / f"image_{camera}" / "data" / f"{i:010}.png")
            rig = Rig(pixels.shape[1], pixels.shape[0])
            (target / f"{i:010}.png").write_bytes(encode_png(rig.see(pixels, view), 1))
    return folder, rig


def test_rows_correspond_again_whatever_the_kind_of_file(
    context: Context, drive: tuple[Path, Rig], tmp_path: Path
) -> None:
    folder, rig = drive
    taken = {v: read_picture(folder / f"image_{n}/data/0000000000.png") for v, n in (("left", "02"), ("right", "03"))}
    stage = opened(context, rig.write(tmp_path / "stereo_calibrate.yml"))
    rectified = {view: passed(stage, frame(pixels, view)).pixels for view, pixels in taken.items()}
    before, after = (np.abs(row_differences(v["left"], v["right"])) for v in (taken, rectified))
    assert np.median(before) > 10
    assert len(after) > 100, "too few matches to tell"
    assert np.median(after) < 0.3, "as for KITTI's own rectified pictures"
    assert np.percentile(after, 90) < 1
    whole = ("M1", "D1", "M2", "D2", "R1", "R2", "P1", "P2")
    for file in (rig.write(tmp_path / "stereo_rectify.xml", *whole), rig.write_kitti(tmp_path / "cam_to_cam.txt")):
        again = passed(opened(context, file), frame(taken["right"], "right")).pixels
        assert np.abs(again.astype(int) - rectified["right"]).mean() < 0.1


def test_the_side_view_and_the_originals_are_rectified_where_they_are_nested(
    context: Context, drive: tuple[Path, Rig], tmp_path: Path
) -> None:
    folder, rig = drive
    file = rig.write(tmp_path / "rig.yml")
    source = Rectified(calibration=str(file), source=Kitti(drive=str(folder), view="right", pace="fast"))
    assert source.clock == "recorded"
    source.open(context)
    assert source.expected_frames() == 2
    pulled, read = list(source.pull()), list(source.read())
    assert [f.frame_id for f in pulled] == [f.frame_id for f in read] == [0, 1]
    found = source.frame_at(1)
    assert found is not None
    assert np.array_equal(found.pixels, pulled[1].pixels)
    assert source.frame_at(7) is None
    source.close()
    alone = passed(opened(context, file), frame(read_picture(folder / "image_03/data/0000000001.png"), "right", 1))
    assert np.array_equal(alone.pixels, found.pixels)


def test_the_frames_of_a_pair_are_rectified_and_packets_pass(context: Context, tmp_path: Path) -> None:
    rig = Rig(128, 96)
    stage = opened(context, rig.write(tmp_path / "rig.yml"))
    pixels = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    left, right = (passed(stage, frame(pixels, view)) for view in ("left", "right"))
    packet = Packet(0, "left", "primary", 0, 0, b"model-id", 128, 96, 1.0, b"")
    assert list(stage.process(packet)) == [packet]
    (pair,) = stage.process(StereoPair(packet, frame(pixels, "right"), 5))
    assert (pair.primary, pair.offset_ns) == (packet, 5)
    assert np.array_equal(pair.side.pixels, right.pixels)
    (pair,) = stage.process(StereoPair(frame(pixels), None))
    assert np.array_equal(pair.primary.pixels, left.pixels)
    assert pair.side is None
    assert not np.array_equal(left.pixels, right.pixels)


def test_size_brings_the_rectified_picture_to_a_size(context: Context, tmp_path: Path) -> None:
    stage = opened(context, Rig(128, 96).write(tmp_path / "rig.yml"), size=[64, 32])
    assert passed(stage, frame(np.zeros((96, 128, 3), np.uint8))).pixels.shape == (32, 64, 3)


@pytest.mark.parametrize("name", ["calib.txt", "calib_cam_to_cam.txt"])
def test_kitti_pictures_that_are_rectified_already_pass_and_it_is_said(
    context: Context, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    file = data / "kitti_odom_color" / "seq04" / name
    if name != "calib.txt":
        file = Rig(128, 96).write_kitti(tmp_path / name)
        text = file.read_text()
        for n in ("02", "03"):
            text = text.replace(f"S_rect_{n}: {128:e} {96:e}", f"S_rect_{n}: {120:e} {90:e}")
        file.write_text(text)
    stage, picture = opened(context, file), frame(np.full((90, 120, 3), 7, np.uint8))
    with caplog.at_level(logging.INFO, "sidecast"):
        assert [passed(stage, picture).pixels is picture.pixels for _ in range(3)] == [True] * 3
    (said,) = [r.message for r in caplog.records]
    assert said.startswith(f"rectify: {file}: ")
    assert said.endswith("rectified already, the frames pass as they are")


def test_pictures_of_another_size_are_refused_with_both_sizes(context: Context, tmp_path: Path) -> None:
    stage = opened(context, Rig(128, 96).write_kitti(tmp_path / "calib_cam_to_cam.txt"))
    with pytest.raises(
        StageError, match=r"is for pictures of 128x96, the left view is 64x48; give the source no `size`"
    ):
        list(stage.process(frame(np.zeros((48, 64, 3), np.uint8))))


def test_a_calibration_without_a_size_is_judged_by_its_centre(context: Context, tmp_path: Path) -> None:
    stage = opened(context, Rig(1280, 960).write(tmp_path / "rig.yml"))
    with pytest.raises(StageError, match=r"left camera's centre at 631, 484, far from the middle of 640x480"):
        list(stage.process(frame(np.zeros((480, 640, 3), np.uint8))))


def test_a_missing_file_is_told_before_any_frame(context: Context, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yml: the calibration cannot be read"):
        opened(context, tmp_path / "no.yml")
