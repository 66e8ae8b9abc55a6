"""A bad day: every mistake ends with one sentence for people, an exit code, and never a traceback."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
import runs
import safetensors
import safetensors.numpy

from stages.codec import weights_file
from tools import cli


@pytest.fixture
def sidecast(capfd, tmp_path, link):
    """`sidecast run CONFIG --set ...` called in this process, whose nodes are processes."""

    def call(config: object, out: Path = tmp_path / "out", **variables: object) -> runs.Ended:
        given = [f"--set={name}={value}" for name, value in {**link, **variables}.items()]
        code = cli.main(["run", str(config), f"--out={out}", *given])
        return runs.Ended(code, *capfd.readouterr(), out)

    return call


def test_five_mistakes_are_five_lines_each_with_line_key_and_remedy(tmp_path, capfd):
    path = tmp_path / "wrong.yaml"
    path.write_text(
        """vars: {link: "tcp://127.0.0.1:5555"}
nodes:
  encoder:
    stages:
      - {use: kiti, drive: somewhere}
      - {use: encode, qualty: 30}
      - {use: send, connect: "${lnk}"}
  decoder:
    http: 9102
    stages:
      - {use: receive, bind: "${link}"}
      - {use: decode, without_side_every: 0}
"""
    )
    for command in (["validate", str(path)], ["run", str(path), f"--out={tmp_path / 'out'}"]):
        assert cli.main(command) == 2
        ended = runs.Ended(2, *capfd.readouterr(), tmp_path)
        assert ended.out == ""
        expected = (
            (5, "nodes.encoder.stages[0].use", "did you mean 'kitti'?"),
            (6, "nodes.encoder.stages[1].qualty", "did you mean 'quality'?"),
            (7, "nodes.encoder.stages[2].connect", "did you mean 'link'?"),
            (9, "nodes.decoder.http", "expected"),
            (12, "nodes.decoder.stages[1].without_side_every", "expected"),
        )
        assert len(ended.errors) == len(ended.err.splitlines()) == 5, ended.err
        for sentence, (line, key, remedy) in zip(ended.errors, expected, strict=True):
            assert sentence.startswith(f"{path}:{line}: {key}: ")
            assert remedy in sentence
    assert not (tmp_path / "out").exists()


def test_missing_drive(sidecast, stereo, tmp_path):
    ended = sidecast(stereo, drive="no/such/drive")
    assert "no/such/drive: there is no such drive" in ended.failed()
    assert ended.out == ""
    assert list((tmp_path / "out").iterdir()) == []


def test_glob_that_matches_nothing(sidecast, stereo):
    assert "no drive matches no/such*: there is no such folder" in sidecast(stereo, drive="no/such*").failed()


def test_views_of_different_sizes(sidecast, stereo, street, tmp_path):
    drive = runs.drive_of({"02": street["02"], "03": [p[:48] for p in street["03"]]}, tmp_path / "drive")
    ended = sidecast(stereo, drive=drive)
    assert "the primary view (left) is 96x64, the side view (right) is 96x48; give both" in ended.failed()


def test_zero_frames(sidecast, stereo, drive):
    assert "there is no frame in frames: 100:" in sidecast(stereo, drive=drive, frames="100:").failed()


def test_empty_drive(sidecast, stereo, tmp_path):
    for camera in ("02", "03"):
        (tmp_path / "empty" / f"image_{camera}" / "data").mkdir(parents=True)
    assert (
        "expected pictures such as 0000000000.png, found nothing" in sidecast(stereo, drive=tmp_path / "empty").failed()
    )


@pytest.mark.slow
@pytest.mark.parametrize("key", ["link", "encoder_http"])
def test_port_in_use(sidecast, stereo, drive, key):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = sidecast(stereo, drive=drive, **{key: f"tcp://{address}" if key == "link" else address})
    sentence = ended.failed()
    assert address in sentence
    assert "in use" in sentence
    assert "another port" in sentence


def test_out_that_cannot_be_written(sidecast, stereo, drive, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written: Not a directory" in sidecast(stereo, tmp_path / "file" / "out", drive=drive).failed(2)


def _text(path: Path) -> None:
    path.write_text("this is no weights file")


def _missing(path: Path) -> None:
    pass


@pytest.mark.parametrize("make", [_text, _missing])
def test_wrong_weights_file(sidecast, stereo, drive, tmp_path, make):
    weights = tmp_path / "wrong.safetensors"
    make(weights)
    ended = sidecast(stereo, drive=drive, weights=weights, decoder_weights=weights)
    assert str(weights) in ended.failed()


@pytest.mark.slow
def test_different_weights_are_refused_with_both_ids(sidecast, stereo, drive, tmp_path):
    path = weights_file.find("default")
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load_file(path)
    name = next(n for n, t in sorted(tensors.items()) if n.startswith("model.") and t.dtype.kind == "f")
    tensors[name] = tensors[name] + 1
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file(tensors, other, metadata)
    ids = {weights_file.load(file).model_id.hex() for file in (path, other)}
    assert len(ids) == 2
    sentence = sidecast(stereo, drive=drive, decoder_weights=other).failed()
    assert all(one in sentence for one in ids)


@pytest.mark.slow
def test_truncated_png_is_counted_and_the_rest_is_processed(sidecast, stereo, drive, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(drive, damaged)
    picture = damaged / "image_02" / "data" / "0000000002.png"
    picture.write_bytes(picture.read_bytes()[:500])
    ended = sidecast(stereo, drive=damaged)
    assert "could not read 1 frame (2), the rest was processed" in ended.failed()
    runs.check_invariants(ended)
    assert (ended.report["frames_in"], ended.report["frames_out"]) == (6, 5)
    assert ended.report["drops"] == {"unreadable": 1}
    assert [row["status"] for row in ended.rows] == ["out", "out", "unreadable", "out", "out", "out"]


@pytest.mark.slow
def test_side_view_that_ends_early_leaves_the_rest_unpaired(sidecast, stereo, street, tmp_path):
    drive = runs.drive_of({"02": street["02"], "03": street["03"][:4]}, tmp_path / "short")
    ended = sidecast(stereo, drive=drive).succeeded()
    runs.check_invariants(ended, frames=6)
    assert ended.report["unpaired"] == 2
    assert "the side view ended before frame 4 of the primary view" in ended.err
