"""One model, all rates: steps per channel and quality, their tables, and payloads at whole and broken qualities."""

import pytest
import torch

from stages.codec import BitstreamError, CodecError, load_codec, weights_file
from stages.codec.gains import HIGHEST_QUALITY, Gains
from stages.codec.training import bits_of

NAMES = ["bls17", "ndic_bls17", "cross_attention", "dsin"]


@pytest.fixture(scope="module")
def trained(make_training):
    """A training model of each kind with gains, whose steps differ from channel to channel."""
    models = {name: make_training(name, anchors=4) for name in NAMES}
    for model in models.values():
        model.codec.gains.set_steps(3.0, 0.3)
        with torch.no_grad():
            model.codec.gains.log_gain += torch.linspace(-0.2, 0.2, 8)
    return models


@pytest.fixture(scope="module")
def gained(trained, tmp_path_factory):
    """A codec of each."""
    folder, codecs = tmp_path_factory.mktemp("gains"), {}
    for name, model in trained.items():
        codec, tables = model.exported()
        weights_file.save(folder / f"{name}.safetensors", codec, tables, {})
        codecs[name] = load_codec(folder / f"{name}.safetensors")
    return codecs


def test_steps_fall_as_quality_rises_whatever_was_learned():
    torch.manual_seed(0)
    gains = Gains(5, 8)
    with torch.no_grad():
        for p in gains.parameters():
            p.normal_(0, 3)
    steps = gains(torch.arange(0, HIGHEST_QUALITY + 0.5, 0.5))[:, :, 0, 0]
    assert (steps > 0).all()
    assert (steps[1:] < steps[:-1]).all()


def test_start_has_the_steps_asked_for_at_both_ends():
    gains = Gains(3, 8)
    gains.set_steps(4.0, 0.25)
    assert gains(torch.tensor([0.0, 31.5, 63.0])).flatten(1)[:, 0].tolist() == pytest.approx([4.0, 1.0, 0.25], rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_payloads_cost_what_the_density_says_and_more_at_higher_quality(trained, gained, picture, name):
    x, side, sizes = picture(64, 128), picture(64, 128, 1), []
    for quality in (0.0, 20.25, 63.0):
        payload = gained[name].encode(x, quality)
        symbols, bits = trained[name].transmitted(x, quality)
        assert torch.equal(gained[name].symbols(payload), symbols)
        assert len(payload) == pytest.approx(float(bits) / 8 + 10, rel=0.03, abs=16)
        assert gained[name].decode(payload, side).shape == x.shape
        sizes.append(len(payload))
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("name", NAMES)
def test_a_finer_step_leaves_less_error_in_the_latent(trained, picture, name):
    codec, x = trained[name].codec, picture(64, 128)
    latent = codec.g_a(x)
    errors = [float((codec.rounded(latent, q) - latent).detach().abs().mean()) for q in (0.0, 30.0, 63.0)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 5 * errors[2]


@pytest.mark.parametrize("name", NAMES)
def test_distortion_and_rate_both_pull_at_the_steps(trained, name):
    torch.manual_seed(0)
    model = trained[name]
    out = model(torch.rand(2, 3, 32, 64), torch.rand(2, 3, 32, 64), torch.tensor([3.0, 50.0]))
    gains = model.codec.gains.log_gain
    (of_distortion,) = torch.autograd.grad(out.x_hat.square().mean(), gains, retain_graph=True)
    (of_rate,) = torch.autograd.grad(bits_of(out.likelihoods["x"]), gains)
    assert of_distortion.abs().max() > 0
    assert (of_rate > 0).all(), "finer steps cost bits"


def test_training_with_gains_needs_qualities(trained):
    with pytest.raises(ValueError, match="trained at given qualities"):
        trained["bls17"](torch.rand(1, 3, 32, 32))


def test_quality_beyond_the_range_is_refused(gained, picture):
    with pytest.raises(CodecError, match="quality 64 was asked for, bls17 has 0 to 63"):
        gained["bls17"].encode(picture(32, 32), 64)


def test_one_rate_point_stays_one(codecs, picture):
    assert codecs["bls17"].quality_range == (0.0, 0.0)
    assert "anchors" not in codecs["bls17"]._model.config
    with pytest.raises(CodecError, match="only 0"):
        codecs["bls17"].encode(picture(32, 32), 24)


@pytest.mark.parametrize("anchors", [1, 65])
def test_impossible_number_of_anchors_is_refused(make_training, anchors):
    with pytest.raises(ValueError, match="expected 0"):
        make_training("bls17", anchors=anchors)


def test_damaged_payload_at_any_quality_is_a_bitstream_error(gained, picture):
    payload = bytearray(gained["bls17"].encode(picture(64, 64), 40.0))
    payload[-3] ^= 0x55
    with pytest.raises(BitstreamError):
        gained["bls17"].decode(bytes(payload))
