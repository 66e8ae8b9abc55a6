"""The whole command, on made-up drives."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stages.codec import weights_file
from stages.codec.ndic_bls17 import NdicBls17Training
from tools.cli import main


@pytest.fixture(autouse=True)
def keep_threads():
    """The command sets how many threads are used, for the whole process."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drive of four frames."""
    folder = tmp_path_factory.mktemp("data") / "drive"
    noise = np.random.default_rng(0).integers(0, 256, (150, 330, 3)).astype(np.float32)
    wide = np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 127) * 6 + 127, 0, 255).astype(np.uint8)
    for frame in range(4):
        for camera, left in (("image_02", 0), ("image_03", 6)):
            path = folder / camera / "data" / f"{frame:010d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), wide[:, left + 2 * frame : left + 2 * frame + 300])
    return folder


@pytest.fixture(scope="module")
def ndic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a model that needs a side view."""
    torch.manual_seed(1)
    training = NdicBls17Training(8)
    path = tmp_path_factory.mktemp("weights") / "ndic.safetensors"
    weights_file.save(path, training.codec, training.density.tables(), {})
    return path


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "rd.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_everything_comes_from_one_command(drive: Path, ndic: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "rd"
    models = ["--models", "default", str(ndic), "--qualities", "12", "36"]
    options = ["--side", "paired", "none", "--side-offset", "0", "1", "--panels", "1", "--threads", "1"]
    assert (
        main(["evaluate", "--data", str(drive), *models, "--rivals", "hevc444", "jpeg", *options, "--out", str(out)])
        == 0
    )
    names = {"rd.csv", "rd.png", "rd.svg", "bd_rate.csv", "side.csv", "panels"}
    assert {path.name for path in out.iterdir()} == names
    assert len(list((out / "panels").glob("*.png"))) == 1
    rows = rows_of(out)
    means = [row for row in rows if row["image"] == "mean"]
    assert {row["codec"] for row in means} == {
        "disparity-mse-fast", "disparity-mse-fast (side -1)", "disparity-mse-fast (side none)",
        "ndic", "ndic (side -1)", "hevc444", "jpeg",
    }  # fmt: skip
    assert len(rows) - len(means) == 3 * (3 * 2 + 2 + 6 + 6), "the first frame has no older side view"
    default = [row for row in means if row["codec"].startswith("disparity") and row["quality"] == "12"]
    assert len({row["bpp"] for row in default}) == 1, "the encoder never sees the side view"
    said = capsys.readouterr()
    assert "BD-rate against hevc444" in said.out
    assert "one point only, compared with hevc444 at its quality: ndic, ndic (side -1)" in said.out
    assert "side view 1 frame older" in said.out
    assert "3/3 pictures" in said.err
    assert "ndic (side none) is left out: the model needs a side view" in said.err
    assert "3 of 4 pictures are taken" in said.err


def test_an_anchor_of_one_point_is_told(drive: Path, ndic: Path, tmp_path: Path, capsys) -> None:
    options = [
        "--models",
        "default",
        str(ndic),
        "--anchor",
        "ndic",
        "--qualities",
        "12",
        "--limit",
        "1",
        "--panels",
        "0",
    ]
    assert main(["evaluate", "--data", str(drive), *options, "--rivals", "--out", str(tmp_path / "rd")]) == 0
    said = capsys.readouterr().out
    assert "ndic has one point only, and there is no BD-rate against a point: choose another --anchor" in said
    assert "compared with ndic" not in said


def test_parameters_of_a_stream_are_counted_once(drive: Path, tmp_path: Path) -> None:
    out = tmp_path / "rd"
    assert (
        main(["evaluate", "--data", str(drive), "--models", "--rivals", "hevc444", "--out", str(out), "--limit", "2"])
        == 0
    )
    first, second = (float(r["bpp"]) * 128 * 256 / 8 for r in rows_of(out)[:12:6])
    assert 40 < first - second < 120


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--data", "nowhere"], 1, "expected a folder of stereo pictures, found nothing at nowhere"),
        (["--rivals", "vvc"], 2, "there is no rival called 'vvc'"),
        (["--models", "nowhere.safetensors"], 1, "nowhere.safetensors does not exist"),
        (["--anchor", "av1"], 2, "--anchor 'av1' is not among what is compared"),
        (["--models", "--rivals"], 2, "there is nothing to compare"),
        (["--side-offset", "9"], 1, "9 frames older"),
        (["--out", "/proc/nowhere/rd"], 2, "cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence(
    drive: Path, tmp_path: Path, capsys, options: list[str], code: int, sentence: str
) -> None:
    assert main(["evaluate", "--data", str(drive), "--out", str(tmp_path / "rd"), *options]) == code
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_damaged_weights_and_views_of_two_sizes_are_one_sentence_each(drive: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"no weights at all")
    assert main(["evaluate", "--data", str(drive), "--models", str(tmp_path / "bad.safetensors")]) == 1
    assert "is not a safetensors file" in capsys.readouterr().err
    for view, width in (("left", 200), ("right", 202)):
        (tmp_path / "set" / view).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set" / view / "x.png"), np.zeros((100, width, 3), np.uint8))
    options = ["--models", "--rivals", "jpeg", "--out", str(tmp_path / "rd")]
    assert main(["evaluate", "--data", str(tmp_path / "set"), *options]) == 1
    assert "primary view is 200x100 and the side view 202x100" in capsys.readouterr().err
