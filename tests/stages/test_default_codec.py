"""`encode` and `decode` with the weights that are shipped, on pictures of every awkward size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from specimens import frame

from pipeline.config.model import Node, StageEntry
from pipeline.errors import StageError
from pipeline.runner import Runner
from pipeline.stage import Context, Stage
from pipeline.types import Decoded, Frame, Item, StereoPair, View, other_view
from stages.codec import load_codec
from stages.codec.disparity.model import DEQUANTISED_CHANNELS
from stages.codec.weights_file import ALIASES, shipped
from stages.decode import Decode
from stages.encode import Encode
from stages.pair import Pair
from stages.picture import read_picture
from stages.similarity import psnr_db
from stages.sources.synthetic import Synthetic
from stages.tensors import to_tensor

pytestmark = pytest.mark.skipif(ALIASES["default"] not in shipped(), reason="the default weights are not there")


@contextmanager
def kernels(threads: int, mkldnn: bool) -> Iterator[None]:
    torch.set_num_threads(threads)
    with torch.backends.mkldnn.flags(enabled=mkldnn):
        yield


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


def test_with_and_without_bf16_the_picture_is_the_same_to_the_eye(context: Context, monkeypatch: pytest.MonkeyPatch):
    views = [Synthetic(size=(160, 96), length=1, view=view) for view in ("left", "right")]
    for view in views:
        view.open(context)
    source, side = (next(view.read()) for view in views)
    results = []
    for fast in (False, True):
        monkeypatch.setattr("stages.codec.precision.has_fast_bf16", lambda _, fast=fast: fast)
        results.append(travel(context, source, replace(side, role="side"), without_side_every=1))
    plain, fast = results
    assert plain.packet.payload == fast.packet.payload
    assert 40 < psnr_db(fast.frame.pixels, plain.frame.pixels) < math.inf
    assert 40 < psnr_db(fast.without_side.pixels, plain.without_side.pixels) < math.inf


@dataclass(kw_only=True)
class Collect(Stage):
    """Keeps what was decoded."""

    results: list[Decoded] = field(default_factory=list)

    def process(self, item: Item) -> Iterator[Item]:
        assert isinstance(item, Decoded)
        self.results.append(item)
        yield item


def decoded_with(threads: int, folder: Path) -> list[Decoded]:
    size, length, sink = (160, 96), 12, Collect()
    side = Synthetic(size=size, length=length, view="right")
    chain = [Synthetic(size=size, length=length), Encode(device="cpu"), Pair(side=side), Decode(device="cpu"), sink]
    entries = [StageEntry(f"s{i}", f"s{i}", stage, None, i) for i, stage in enumerate(chain)]
    context = Context("test", folder, threads=threads)
    Runner(Node("test", None, False, entries), context).run()
    assert context.ledger.counts() == {"out": length}
    return sink.results


def test_pictures_worked_on_side_by_side_are_those_worked_on_one_by_one(tmp_path: Path):
    alone, together = decoded_with(1, tmp_path / "1"), decoded_with(4, tmp_path / "4")
    for i, (one, other) in enumerate(zip(alone, together, strict=True)):
        assert one.frame.frame_id == other.frame.frame_id == i
        assert one.packet.payload == other.packet.payload
        assert one.side is not None
        assert np.array_equal(one.frame.pixels, other.frame.pixels)


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
def test_symbols_survive_other_threads_and_other_kernels_over_2000_frames(
    context: Context, monkeypatch: pytest.MonkeyPatch
):
    """Payloads made with 1 or 2 threads, with or without oneDNN, decode with all the others to what was coded."""
    codec, drive = load_codec("default", "cpu"), Synthetic(size=(640, 192))
    drive.open(context)
    picture = drive.render(3, "left")
    rng = np.random.default_rng(0)
    settings = [(threads, mkldnn) for threads in (1, 2) for mkldnn in (True, False)]
    sent: list[tuple[bytes, torch.Tensor]] = []
    analysed: list[torch.Tensor] = []
    analyse = codec._model.analyse
    monkeypatch.setattr(codec._model, "analyse", lambda *of: analysed.append(analyse(*of)) or analysed[-1])
    for setting in settings:
        with kernels(*setting):
            for _ in range(500):
                y, x, quality = rng.integers(0, 128), rng.integers(0, 576), float(rng.integers(0, 253)) / 4
                crop = torch.from_numpy(picture[y : y + 64, x : x + 64]).permute(2, 0, 1)[None].float() / 255
                payload = codec.encode(crop, quality)
                sent.append((payload, analysed[-1]))
                assert torch.equal(analyse(crop, quality), analysed[-1]), "analysed again it is the same"
    for i, setting in enumerate(settings):
        with kernels(*setting):
            assert all(torch.equal(codec.symbols(payload), symbols) for payload, symbols in sent[i::4])


@pytest.mark.parametrize("name", [name for name in shipped() if name.startswith("disparity")])
@pytest.mark.parametrize("quality", [0.0, 12.0, 24.0, 45.0])
def test_channels_that_an_encoder_leaves_out_would_hold_next_to_nothing(context: Context, name: str, quality: float):
    model, drive = load_codec(name, "cpu")._model, Synthetic(size=(640, 192))
    drive.open(context)
    x = torch.from_numpy(drive.render(3, "left")).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        every = (model.g_a(x) / model.step(torch.tensor([quality]))).round().int()[0]
    taken = model.analyse(x, quality)
    left_out = np.setdiff1d(np.arange(len(every)), model._in_use(quality).numpy())
    assert not taken[left_out].any()
    assert (taken != every).float().mean() < 2e-4
    assert len(left_out) > 40 or quality > 40


@pytest.mark.parametrize("with_side", [True, False])
def test_dequantisation_pulls_a_picture_to_its_symbols_and_the_original(
    context: Context, monkeypatch: pytest.MonkeyPatch, with_side: bool
):
    codec, drive = load_codec("default", "cpu"), Synthetic(size=(256, 128))
    drive.open(context)
    x, side = (to_tensor(drive.render(3, view), torch.device("cpu")) for view in ("left", "right"))

    def errors(quality: float) -> tuple[float, float]:
        """Of the picture; and the share of the latent that lies outside the cells of the symbols."""
        payload = codec.encode(x, quality)
        x_hat = codec.decode(payload, side if with_side else None, clamp=False)
        step = codec._model.step(torch.tensor([quality]))
        away = codec._model.g_a(x_hat) / step - codec.symbols(payload)
        return float((x_hat - x).square().mean()), float((away[:, :DEQUANTISED_CHANNELS].abs() > 0.5).float().mean())

    dequantised = errors(48.0)
    low = errors(24.0)
    monkeypatch.setattr("stages.codec.disparity.model.DEQUANTISED_FROM", 64.0)
    plain = errors(48.0)
    assert dequantised[0] < (0.995 if with_side else 1.0) * plain[0]
    assert dequantised[1] < 0.7 * plain[1]
    assert errors(24.0) == low, "below it nothing changes"


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
