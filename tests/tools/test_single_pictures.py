from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from pipeline.stage import Context
from pipeline.wire import parse, serialize
from stages.decode_image import PICTURES
from stages.picture import encode_png, read_picture
from stages.similarity import psnr_db
from stages.sources.synthetic import Synthetic
from tools.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """left.png, right.png and left.sdc of a rendered moment."""
    folder = tmp_path_factory.mktemp("pictures")
    for view in ("left", "right"):
        source = Synthetic(size=(128, 96), length=1, view=view)
        source.open(Context("test", folder))
        (folder / f"{view}.png").write_bytes(encode_png(next(source.read()).pixels))
        source.close()
    assert main(["encode", str(folder / "left.png"), "-o", str(folder / "left.sdc"), "--threads", "1"]) == 0
    return folder


def decoded(folder: Path, *arguments: str, out: str) -> int:
    return main(["decode", str(folder / "left.sdc"), "-o", out, "--threads", "1", *arguments])


def test_a_picture_becomes_one_packet_and_comes_back(folder, tmp_path):
    packet = parse((folder / "left.sdc").read_bytes())
    assert (packet.width, packet.height, packet.view, packet.role) == (128, 96, "left", "primary")
    original = read_picture(folder / "left.png")
    assert decoded(folder, "--side", str(folder / "right.png"), out=str(tmp_path / "with.png")) == 0
    assert decoded(folder, out=str(tmp_path / "without.png")) == 0
    with_side, without = (psnr_db(read_picture(tmp_path / f"{n}.png"), original) for n in ("with", "without"))
    assert with_side > 20
    assert with_side != without


def test_the_same_picture_gives_the_same_file(folder, tmp_path):
    main(["encode", str(folder / "left.png"), "-o", str(tmp_path / "b.sdc"), "--threads", "1"])
    assert (tmp_path / "b.sdc").read_bytes() == (folder / "left.sdc").read_bytes()


def test_a_side_view_for_a_picture_that_needs_none_gets_one_sentence(folder, tmp_path, capsys):
    packet = parse((folder / "left.sdc").read_bytes())
    picture = (folder / "left.png").read_bytes()
    (tmp_path / "png.sdc").write_bytes(serialize(replace(packet, model_id=PICTURES[1], payload=picture)))
    arguments = ["decode", str(tmp_path / "png.sdc"), "-o", str(tmp_path / "x.png")]
    assert main([*arguments, "--side", str(folder / "right.png")]) == 1
    assert "png.sdc holds a picture that is decoded alone: leave out --side" in capsys.readouterr().err
    assert main(arguments) == 0
    assert (read_picture(tmp_path / "x.png") == read_picture(folder / "left.png")).all()


def test_jpeg_is_written_where_the_name_says_so(folder, tmp_path):
    assert decoded(folder, out=str(tmp_path / "a.jpg")) == 0
    assert (tmp_path / "a.jpg").read_bytes()[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d[:200], "is no packet: expected a payload of"),
        (lambda d: d[:20], "is no packet: expected at least 96 bytes, found 20"),
        (lambda d: b"\x89PNG" + d[4:], "is no packet: expected a message that starts with SDC1"),
        (
            lambda d: d[:150] + bytes([d[150] ^ 1]) + d[151:],
            "the payload of frame 0 does not match its CRC",
        ),
        (
            lambda d: serialize(replace(parse(d), model_id=b"12345678")),
            "was coded with weights 3132333435363738, default is",
        ),
        (lambda d: serialize(replace(parse(d), width=64)), "says 64x96, its payload 128x96"),
        (lambda d: serialize(replace(parse(d), payload=parse(d).payload[:-8])), " damaged"),
    ],
)
def test_a_wrong_packet_gets_one_sentence(folder, tmp_path, capsys, change, sentence):
    path = tmp_path / "x.sdc"
    path.write_bytes(change((folder / "left.sdc").read_bytes()))
    assert main(["decode", str(path), "-o", str(tmp_path / "x.png"), "--threads", "1"]) == 1
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


def test_a_side_view_of_another_size_gets_one_sentence(folder, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "small.png"), read_picture(folder / "right.png")[:50, :50])
    assert decoded(folder, "--side", str(tmp_path / "small.png"), out=str(tmp_path / "x.png")) == 1
    assert "small.png is 50x50, the packet 128x96: the views must have one size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["encode", "{}/none.png", "-o", "{}/x.sdc"], "none.png: No such file"),
        (["encode", "{}/left.png", "-o", "{}/left.sdc/x.sdc"], "left.sdc/x.sdc cannot be written: "),
        (["encode", "{}/left.png", "-o", "{}/x.sdc", "--quality", "9999"], "quality 9999 was asked for"),
        (["decode", "{}/none.sdc", "-o", "{}/x.png"], "none.sdc: No such file"),
        (["decode", "{}/left.sdc", "-o", "{}/x.bmp"], "expected a name that ends in .png or .jpg"),
    ],
)
def test_what_cannot_be_done_gets_one_sentence(folder, capsys, arguments, sentence):
    assert main([argument.format(folder) for argument in arguments]) in (1, 2)
    assert sentence in capsys.readouterr().err


def test_what_is_read_is_never_written_over(folder, capsys):
    left, right, packet = (folder / name for name in ("left.png", "right.png", "left.sdc"))
    for arguments, output in (
        (["encode", left], left),
        (["decode", packet, "--side", right], right),
    ):
        before = output.read_bytes()
        assert main([*map(str, arguments), "-o", str(output)]) == 1
        assert f"{output} is read and would be written over" in capsys.readouterr().err
        assert output.read_bytes() == before


def test_the_folder_of_a_packet_is_made(folder, tmp_path):
    assert main(["encode", str(folder / "left.png"), "-o", str(tmp_path / "a" / "b.sdc"), "--threads", "1"]) == 0
    assert (tmp_path / "a" / "b.sdc").read_bytes() == (folder / "left.sdc").read_bytes()
