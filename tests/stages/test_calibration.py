"""Calibration files: OpenCV's own and KITTI's are read, every other one gets a sentence."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from rig import Rig

from pipeline.errors import ConfigError
from stages.calibration import MAX_BYTES, read_calibration

RIG = Rig(640, 192)
OPENCV = """%YAML:1.0
---
image_width: 640
image_height: 192
M1: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 371., 0., 311., 0., 372., 100., 0., 0., 1. ]
D1: !!opencv-matrix
   rows: 1
   cols: 5
   dt: d
   data: [ -2.1e-01, 5.e-02, 0., 0., 0. ]
M2: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 371., 0., 311., 0., 372., 100., 0., 0., 1. ]
D2: !!opencv-matrix
   rows: 1
   cols: 5
   dt: d
   data: [ -2.1e-01, 5.e-02, 0., 0., 0. ]
R: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 1., 0., 0., 0., 1., 0., 0., 0., 1. ]
T: !!opencv-matrix
   rows: 3
   cols: 1
   dt: d
   data: [ -5.4e-01, 0., 0. ]
"""


@pytest.mark.parametrize("name", ["rig.yml", "rig.xml", "rig.json"])
def test_what_opencv_writes_is_read(tmp_path: Path, name: str) -> None:
    found = read_calibration([RIG.write(tmp_path / name)])
    assert np.allclose(found.lenses["left"].matrix, RIG.matrix)
    assert np.allclose(found.lenses["right"].distortion, RIG.d["right"])
    assert np.allclose(found.rotation, RIG.r)
    assert np.allclose(found.translation, RIG.t)
    assert found.rectified is None


def test_intrinsics_and_extrinsics_may_be_two_files(tmp_path: Path) -> None:
    files = [
        RIG.write(tmp_path / "a.yml", "M1", "D1", "M2", "D2"),
        RIG.write(tmp_path / "b.yml", "R1", "R2", "P1", "P2"),
    ]
    found = read_calibration(files)
    assert np.allclose(found.lenses["right"].rotation, RIG.r2)
    assert np.allclose(found.lenses["right"].projection, RIG.p2)


def test_other_names_and_a_rotation_vector_are_understood(tmp_path: Path) -> None:
    text = OPENCV.replace("M1:", "cameraMatrix1:").replace("D2:", "dist_coeffs_2:")
    text = text.replace("[ 1., 0., 0., 0., 1., 0., 0., 0., 1. ]", "[ 0., 0., 0. ]")
    file = tmp_path / "rig.yml"
    file.write_text(text)
    found = read_calibration([file])
    assert np.allclose(found.rotation, np.eye(3))
    assert found.lenses["left"].taken == found.rectified == (640, 192)


def test_a_kitti_raw_calibration_is_read(tmp_path: Path) -> None:
    found = read_calibration([RIG.write_kitti(tmp_path / "calib_cam_to_cam.txt")])
    assert np.allclose(found.lenses["left"].matrix, RIG.matrix, rtol=1e-5)
    assert np.allclose(found.lenses["right"].projection, RIG.p2, rtol=1e-5)
    assert found.lenses["left"].taken == found.rectified == (640, 192)


def test_an_odometry_calibration_says_that_nothing_is_left_to_do(data: Path) -> None:
    assert read_calibration([data / "kitti_odom_color" / "seq04" / "calib.txt"]).lenses == {}


@pytest.mark.data
def test_a_calibration_of_others_is_read(data: Path) -> None:
    found = read_calibration([data / "endoscopy_video" / "calibration.yaml"])
    assert found.lenses["right"].matrix[0, 2] == pytest.approx(688.361877)
    assert found.translation == pytest.approx([-4.14339018, -0.0238197036, -0.00190685259])


FAULTY = {
    "": r"the file is empty$",
    "hello": r"expected a stereo calibration as OpenCV writes it .* begins with 'hello'$",
    "x" * (MAX_BYTES + 1): r"a text of at most 256 kB$",
    "%YAML:1.0\n---\n- 1\n": r"expected names with matrices, found list$",
    "%YAML:1.0\n---\nM1: [1, 2\nD1: {": r"line 4: this is no YAML of OpenCV",
    "%YAML:1.0\n---\n" + "[" * 2000: r"this is no YAML of OpenCV \(",
    "%YAML:1.0\n---\nA: 1\n": r"M1 and D1 of the left camera is missing, the file has a$",
    "%YAML:1.0\n---\nM1: !!python/object:os.system {}\n": r"line 3: this is no YAML of OpenCV",
    OPENCV.replace("T:", "U:"): r"expected R and T between the cameras, or R1, P1, R2 and P2; T is missing$",
    OPENCV.replace("0., 0., 1. ]", "1. ]", 1): r"M1 must have 9 numbers, found 7$",
    OPENCV.replace("371., 0., 311.", "0., 0., 311.", 1): r"M1 is no camera matrix, expected \[fx 0 cx; 0 fy cy; ",
    OPENCV.replace("371., 0., 311.", ".nan, 0., 311.", 1): r"M1 must be finite numbers",
    OPENCV.replace("371., 0., 311.", "many, 0., 311.", 1): r"M1 must be numbers, found",
    OPENCV.replace("371., 0., 311.", "{a: 1}, 0., 311.", 1): r"M1 must be numbers, found",
    OPENCV.replace("-2.1e-01, 5.e-02, 0.", "0.", 1): r"D1 must have 4 or 5 or 8 or 12 or 14 numbers, found 3$",
    OPENCV.replace("[ 1., 0., 0., 0.", "[ 2., 0., 0., 0."): r"R is no rotation",
    OPENCV.replace("-5.4e-01, 0., 0.", "0., 0., 0."): r"T is 0, two cameras at one place",
    OPENCV.replace("-5.4e-01, 0., 0.", "0.54, 0., 0."): r"T says that camera 1 is the right one",
    OPENCV.replace("-5.4e-01, 0., 0.", "0., 0.54, 0."): r"T says that the cameras stand above each other",
    OPENCV.replace("image_width: 640", "image_width: 6.5"): r"the size of the pictures must be width and height",
    OPENCV.replace("image_width: 640", "image_width: 1e99"): r"the size of the pictures must be width and height",
    "<a/>": r"expected <opencv_storage>, found <a>$",
    "<opencv_storage><M1>": r"this is no XML of OpenCV \(",
    '<!DOCTYPE a [<!ENTITY b "c">]><opencv_storage>&b;</opencv_storage>': r"declares no entities",
    "<opencv_storage></opencv_storage>": r"M1 and D1 of the left camera is missing, the file has nothing$",
    "P0: 1 2 3\n": r"P0 must have 12 numbers, found 3$",
    "S_02: 1392 512\nK_02: 1\n": r"D_02 of the color cameras is missing, the file has S_02, K_02$",
    "S_02: 1392 512\nwhat is this\n": r"line 2: expected NAME: VALUES as KITTI writes it, found 'what is this'$",
}


@pytest.mark.parametrize("number", range(len(FAULTY)))
def test_a_faulty_file_gets_one_sentence(tmp_path: Path, number: int) -> None:
    text, sentence = list(FAULTY.items())[number]
    file = tmp_path / "rig.yml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence) as raised:
        read_calibration([file])
    assert str(raised.value).startswith(f"{file}: ")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yml: the calibration cannot be read: No such file"):
        read_calibration([tmp_path / "no.yml"])
    with pytest.raises(ConfigError, match=r"the calibration cannot be read: Is a directory"):
        read_calibration([tmp_path])


def test_kitti_and_opencv_do_not_mix(tmp_path: Path) -> None:
    files = [RIG.write(tmp_path / "a.yml"), RIG.write_kitti(tmp_path / "b.txt")]
    with pytest.raises(ConfigError, match=r"one KITTI calib file is expected, or files of OpenCV only$"):
        read_calibration(files)


@pytest.mark.parametrize("name", ["S_03", "K_03", "R_rect_02", "P_rect_03", "D_02"])
def test_a_kitti_calibration_that_lacks_a_line_says_which(tmp_path: Path, name: str) -> None:
    file = RIG.write_kitti(tmp_path / "calib_cam_to_cam.txt")
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith(f"{name}:")))
    with pytest.raises(ConfigError, match=rf"{name} of the color cameras is missing, the file has "):
        read_calibration([file])


def test_random_damage_never_gets_past_with_anything_but_a_sentence(tmp_path: Path) -> None:
    rng, file = np.random.default_rng(0), tmp_path / "rig"
    for whole in (
        OPENCV.encode(),
        RIG.write(tmp_path / "r.xml").read_bytes(),
        RIG.write_kitti(tmp_path / "k").read_bytes(),
    ):
        for _ in range(60):
            damaged = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.5 else whole)
            for at in rng.integers(0, len(damaged), 3):
                damaged[at] = rng.integers(0, 256)
            file.write_bytes(damaged)
            with contextlib.suppress(ConfigError):
                read_calibration([file])
