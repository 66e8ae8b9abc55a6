"""Model cards, from weights with random networks and made-up drives."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stages.codec import weights_file
from stages.codec.bls17 import Bls17Training
from stages.codec.ndic_bls17 import NdicBls17Training
from tools.cli import main
from tools.evaluation import cards


@pytest.fixture(autouse=True)
def keep_threads():
    """The command sets how many threads are used, for the whole process."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drives of two frames and a pair of stills."""
    root = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(0).integers(0, 256, (150, 330, 3)).astype(np.float32)
    wide = np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 127) * 6 + 127, 0, 255).astype(np.uint8)
    for drive in ("seq00", "seq01"):
        for frame in range(2):
            for camera, left in (("image_02", 0), ("image_03", 6)):
                write(root / "odom" / drive / camera / "data" / f"{frame:010d}.png", wide[:, left + frame :][:, :300])
    for view, left in (("left", 0), ("right", 6)):
        write(root / "others" / view / "beach.png", wide[:, left:][:, :300])
    return root


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """With gains, and with one rate; the one was not trained on seq00 and seq01, the other not on seq01."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(1)
    more = ["odom/seq01", "others/left/*"]
    return {
        "many": saved(folder / "many.safetensors", Bls17Training(4, anchors=2), ["odom/seq00", *more], hours=0.5),
        "one": saved(folder / "one.safetensors", NdicBls17Training(4), more, hours=30.0),
        "silent": saved(folder / "silent.safetensors", Bls17Training(4), None, hours=1.0),
    }


def saved(path: Path, training, held_out: list[str] | None, hours: float) -> Path:
    with torch.no_grad():
        training.codec.g_a.conv[-1].weight *= 40
    about = {"steps": 100, "hours": hours, "rd_lambda": [1e-3, 1e-2], "distortion": "mse"}
    weights_file.save(
        path,
        *training.exported(),
        {"about": "made up", "training": about | ({"held_out": held_out} if held_out else {})},
    )
    return path


def test_cards_of_all_weights_come_from_one_command(
    data: Path, weights: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(weights[name]) for name in ("many", "one")]
    options = ["--to", str(tmp_path / "to"), "--out", str(tmp_path / "out"), "--threads", "1"]
    assert main(["cards", "--data", str(data), "--weights", *files, *options]) == 0
    assert "README.md, crop.png, native.png" in capsys.readouterr().out
    text = (tmp_path / "to" / "README.md").read_text()
    assert "2 of the drives seq01" in text, "only what none of them was trained on"
    assert "30 minutes, 100 steps, briefly" in text
    assert "30.0 hours, 100 steps;" in text
    assert "It has one rate point" in text
    assert "it can't decode without a side view" in text
    assert re.search(r"\| stills/others/left/beach.png \|", text)
    assert "CC BY-NC-SA" in text
    for picture in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (tmp_path / "to" / picture).read_bytes().startswith(b"\x89PNG")


def test_weights_that_do_not_say_what_they_were_not_trained_on_are_refused(
    data: Path, weights: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cards", "--data", str(data), "--weights", str(weights["silent"]), "--to", str(tmp_path)]) != 0
    assert "silent.safetensors doesn't say which scenes it was not trained on" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_without_those_scenes_is_refused(
    weights: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["cards", "--data", str(tmp_path / "empty"), "--weights", str(weights["one"])]) != 0
    assert "expected the drives that the weights were not trained on, found none" in capsys.readouterr().err


def test_only_scenes_that_all_weights_held_out_are_taken(data: Path, weights: dict[str, Path]) -> None:
    both = [cards.read_card(weights[name]) for name in ("many", "one")]
    assert [drive.name for drive in cards.held_out(both, data).drives] == ["seq01"]
    assert [drive.name for drive in cards.held_out(both[:1], data).drives] == ["seq00", "seq01"]
    assert cards.held_out(both, data).stills == [("others/left/beach.png", "others/right/beach.png")]
