"""`encode` and `decode` with the weights that are shipped, on pictures of every awkward size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from specimens import frame

from pipeline.errors import StageError
from pipeline.stage import Context
from pipeline.types import Decoded, Frame, StereoPair, View, other_view
from stages.codec.weights_file import shipped
from stages.decode import Decode
from stages.encode import Encode
from stages.picture import read_picture
from stages.similarity import psnr_db

pytestmark = pytest.mark.skipif("disparity-mse" not in shipped(), reason="the default weights are not there")


def travel(context: Context, source: Frame, side: Frame | None, **fields) -> Decoded:
    encode, decode = Encode(quality=24, device="cpu"), Decode(device="cpu", **fields)
    for stage in (encode, decode):
        stage.open(context)
    (packet,) = encode.process(source)
    (result,) = decode.process(StereoPair(packet, side))
    return result


@pytest.mark.parametrize(("width", "height"), [(1242, 375), (129, 67), (16, 16), (1, 1)])
def test_any_size_comes_back(context: Context, width: int, height: int):
    source = frame(width=width, height=height)
    side = frame(view="right", role="side", width=width, height=height)
    result = travel(context, source, side, without_side_every=1)
    assert result.frame.pixels.shape == (height, width, 3)
    assert result.without_side.pixels.shape == (height, width, 3)
    assert context.ledger.rows()[0].values["payload_bytes"] == len(result.packet.payload)


@pytest.mark.parametrize("primary", ["left", "right"])
def test_the_side_view_helps_on_a_real_drive_whichever_view_is_coded(context: Context, data: Path, primary: View):
    drive = data / "kitti_odom_color" / "seq04"
    views = [next(iter(sorted((drive / f"image_0{i}").rglob("*.png")))) for i in (2, 3)]
    pictures = dict(zip(("left", "right"), (read_picture(path)[:256, :512] for path in views), strict=True))
    side = frame(0, pictures[other_view(primary)], view=other_view(primary), role="side")
    result = travel(context, frame(0, pictures[primary], view=primary), side, without_side_every=1)
    with_side, without = (psnr_db(f.pixels, pictures[primary]) for f in (result.frame, result.without_side))
    assert with_side > without + 0.5


def test_the_same_payload_gives_the_same_picture_again(context: Context):
    source, side = frame(width=100, height=80), frame(view="right", role="side", width=100, height=80)
    first, second = (travel(context, source, side) for _ in range(2))
    assert first.packet.payload == second.packet.payload
    assert np.array_equal(first.frame.pixels, second.frame.pixels)


def test_threads_leave_the_payload_as_it_is(context: Context):
    source, encode = frame(width=300, height=200), Encode(device="cpu")
    encode.open(context)
    payloads = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        payloads.append(next(encode.process(source)).payload)
    decode = Decode(device="cpu")
    decode.open(context)
    for payload in payloads:
        symbols = decode._codec.symbols(payload)
        torch.set_num_threads(1)
        assert torch.equal(symbols, decode._codec.symbols(payload))


def test_flipped_bits_of_payloads_are_dropped_or_decoded(context: Context):
    encode, decode = Encode(device="cpu"), Decode(device="cpu")
    for stage in (encode, decode):
        stage.open(context)
    (packet,) = encode.process(frame(width=64, height=48))
    random = np.random.default_rng(0)
    for i in range(1, 100):
        payload = bytearray(packet.payload)
        payload[random.integers(len(payload))] ^= 1 << random.integers(8)
        results = list(decode.process(replace(packet, frame_id=i, payload=bytes(payload))))
        assert bool(results) != (context.ledger.status(i) == "corrupt")


@pytest.mark.parametrize("stage", [Encode, Decode])
@pytest.mark.parametrize("damage", ["missing", "not weights"])
def test_weights_that_cannot_be_used_are_one_sentence(context: Context, tmp_path: Path, stage, damage: str):
    file = tmp_path / "mine.safetensors"
    if damage == "not weights":
        file.write_bytes(b"nonsense")
    with pytest.raises(StageError) as caught:
        stage(weights=str(file)).open(context)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
