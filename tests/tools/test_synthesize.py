from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import ConfigError, SidecastError
from pipeline.stage import Context
from pipeline.types import Frame
from stages.sources.kitti import Kitti
from stages.sources.synthetic import Synthetic
from tools.synthesize import add_arguments, main


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args(arguments))


def test_the_drive_reads_back_as_a_kitti_recording(tmp_path: Path) -> None:
    assert run("--out", str(tmp_path), "--length", "3", "--size", "160", "64", "--offset-ms", "40", "--seed", "2") == 0
    direct = Synthetic(length=3, size=(160, 64), offset_ms=40, seed=2, pace="fast", with_side=True)
    stored = Kitti(drive=str(tmp_path), pace="fast", with_side=True)
    for source in (direct, stored):
        source.open(Context("encoder", Path()))
    pairs = list(zip(direct.read(), stored.read(), strict=True))
    assert len(pairs) == 6
    for one, other in pairs:
        assert isinstance(one, Frame)
        assert isinstance(other, Frame)
        assert (one.frame_id, one.view, one.pts_ns) == (other.frame_id, other.view, other.pts_ns)
        assert np.array_equal(one.pixels, other.pixels)
    coded = cv2.imread(str(tmp_path / "disparity_03/data/0000000001.png"), cv2.IMREAD_UNCHANGED)
    assert coded.dtype == np.uint16
    assert np.abs(coded / 256 - direct.disparity_at(1, "right")).max() <= 1 / 512 + 1e-6


def test_the_calibration_gives_focal_length_and_baseline(tmp_path: Path) -> None:
    run("--out", str(tmp_path), "--length", "1", "--size", "160", "64", "--focal-px", "100", "--baseline-m", "0.5")
    lines = dict(line.split(": ", 1) for line in (tmp_path / "calib_cam_to_cam.txt").read_text().splitlines())
    p3 = np.array(lines["P_rect_03"].split(), float).reshape(3, 4)
    assert p3[0, 0] == 100
    assert p3[0, 3] == -50


def test_a_value_out_of_range_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--length: .*greater than or equal to 1, found 0"):
        run("--out", str(tmp_path), "--length", "0")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SidecastError, match="cannot be written"):
        run("--out", str(tmp_path / "file"), "--length", "1")
