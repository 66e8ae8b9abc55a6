"""h_s on integers: exact everywhere, and hardly worse than float."""

import contextlib
import itertools
import math

import numpy as np
import pytest
import torch

from stages.codec import load_codec
from stages.codec.entropy import CodingTables
from stages.codec.hyperprior import LEAST_SIGMA, SCALES, HyperSynthesis, gaussian_likelihood, gaussian_tables
from stages.codec.integer_hyper import IntegerHyperSynthesis
from stages.codec.training import bits_of

CHANNELS = 24
HYPER = ["bmshj18", "ndic_bmshj18"]
ONE_DNN = "ignore:TF32 acceleration on top of oneDNN"
"""What torch says when oneDNN is switched off and on."""


def z_tables(reach=12):
    """Tables of z as wide as in trained models."""
    symbols = np.arange(-reach, reach + 1)
    return CodingTables.build([np.exp(-np.abs(symbols) / 3) / 6.1] * CHANNELS, [-reach] * CHANNELS)


@pytest.fixture(scope="module")
def pair():
    """A float h_s whose spreads reach from the least to about fifty, and its integers."""
    torch.manual_seed(3)
    h_s = HyperSynthesis(CHANNELS)
    with torch.no_grad():
        h_s.deconv[0].weight *= 3
        h_s.deconv[2].weight *= 40
        h_s.deconv[2].bias.normal_(4, 3)
    integer = IntegerHyperSynthesis(CHANNELS)
    integer.quantise(h_s, z_tables())
    return h_s, integer


@pytest.fixture(scope="module")
def z():
    """(CHANNELS, 6, 9), as likely as the tables say."""
    return torch.from_numpy(np.random.default_rng(5).laplace(0, 3, (CHANNELS, 6, 9)).round()).int()


@contextlib.contextmanager
def threads(count):
    """Whatever runs inside uses this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_index_is_that_of_the_nearest_scale(pair, z):
    h_s, integer = pair
    sigma = h_s(z[None].float())[0].detach().double()
    index = integer(z)
    assert index.shape == sigma.shape
    assert index.unique().numel() > 40
    nearest = (sigma.log()[..., None] - torch.tensor(SCALES).log().double()).abs().argmin(-1)
    assert (index == nearest).double().mean() > 0.99
    assert (index - nearest).abs().max() <= 1


def test_loss_of_rate_is_below_one_percent(pair, z):
    """Symbols drawn as the float h_s says, coded with the tables that the integers choose."""
    h_s, integer = pair
    sigma = h_s(z[None].float())[0].detach()
    symbols = (sigma * torch.randn(sigma.shape, generator=torch.Generator().manual_seed(1))).round()
    ideal = float(bits_of(gaussian_likelihood(symbols, sigma)))
    real = gaussian_tables().bits(symbols.numpy(), integer(z).reshape(-1).numpy())
    assert real < 1.01 * ideal


def test_sums_are_exact(pair, z):
    """Plain integer arithmetic, one product at a time, gives the same."""
    _, integer = pair
    x = z[:, :2, :3].numpy().astype(object)
    for i, stride in enumerate((2, 2, 1)):
        weight = integer.get_buffer(f"weight_{i}").numpy().astype(object)
        sums = deconvolved(x, weight, stride) + integer.get_buffer(f"bias_{i}").numpy().astype(object)[:, None, None]
        if i < 2:
            shift = int(integer.shift[i])
            x = np.clip((sums + (1 << shift >> 1)) >> shift, 0, (1 << 22) - 1)
    expected = np.searchsorted(integer.threshold.numpy(), sums.astype(np.int64), side="right")
    assert (integer(z[:, :2, :3]).numpy() == expected).all()


def deconvolved(x, weight, stride):
    """Transposed convolution of Python integers."""
    kernel = weight.shape[2]
    out = np.zeros((weight.shape[1], stride * x.shape[1] + kernel, stride * x.shape[2] + kernel), object)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            top, left = stride * row, stride * column
            out[:, top : top + kernel, left : left + kernel] += np.tensordot(x[:, row, column], weight, 1)
    inner = kernel // 2
    return out[:, inner : inner + stride * x.shape[1], inner : inner + stride * x.shape[2]]


def test_extreme_symbols_are_clipped(pair):
    _, integer = pair
    for value in (-(2**15), 2**15 - 1):
        index = integer(torch.full((CHANNELS, 2, 2), value))
        assert 0 <= index.min() <= index.max() < len(SCALES)


@pytest.mark.filterwarnings(ONE_DNN)
def test_threads_and_one_dnn_do_not_matter(pair, z):
    _, integer = pair
    with threads(1):
        expected = integer(z)
    with threads(2):
        assert torch.equal(integer(z), expected)
        with torch.backends.mkldnn.flags(enabled=False):
            assert torch.equal(integer(z), expected)


@pytest.mark.filterwarnings(ONE_DNN)
@pytest.mark.parametrize("name", HYPER)
def test_payload_of_one_thread_decodes_with_two_and_without_one_dnn(codecs, picture, name):
    codec, x = codecs[name], picture(150, 230)
    with threads(1):
        payload = codec.encode(x)
        symbols = codec.symbols(payload)
    with threads(2):
        assert torch.equal(codec.symbols(payload), symbols)
        with torch.backends.mkldnn.flags(enabled=False):
            assert torch.equal(codec.symbols(payload), symbols)


@pytest.mark.needs_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", HYPER)
def test_payload_decodes_on_the_other_device(codecs, weights_paths, picture, name):
    cpu, cuda = codecs[name], load_codec(weights_paths[name], device="cuda")
    for writer, reader in ((cpu, cuda), (cuda, cpu)):
        payload = writer.encode(picture(150, 230))
        assert torch.equal(reader.symbols(payload), writer.symbols(payload))


def test_weights_too_great_for_integers_are_refused(pair):
    h_s, _ = pair
    broken = HyperSynthesis(CHANNELS)
    broken.load_state_dict(h_s.state_dict())
    with torch.no_grad():
        broken.deconv[1].weight[0, 0, 0, 0] = 1e9
    with pytest.raises(ValueError, match="don't fit"):
        IntegerHyperSynthesis(CHANNELS).quantise(broken, z_tables())


def test_gaussian_tables_cost_what_the_likelihood_says():
    tables, generator = gaussian_tables(), torch.Generator().manual_seed(2)
    for i in (0, 8, 20, 40, 63):
        symbols = (SCALES[i] * torch.randn(20_000, generator=generator)).round()
        ideal = float(bits_of(gaussian_likelihood(symbols, torch.tensor(SCALES[i]))))
        assert tables.bits(symbols.numpy(), np.full(20_000, i)) == pytest.approx(ideal, rel=0.01, abs=64)


def test_scales_reach_from_the_least_sigma_by_one_factor():
    assert SCALES[0] == pytest.approx(LEAST_SIGMA)
    assert len({round(math.log(b / a), 9) for a, b in itertools.pairwise(SCALES)}) == 1


def test_spreads_of_an_odd_latent_are_cut_to_it(codecs, picture):
    """Three rows of a latent have one row of z, whose spreads are of four."""
    model = codecs["bmshj18"]._model
    z, latent = model.analyse_both(picture(48, 80), 0.0)
    assert (z.shape, latent.shape) == ((8, 1, 2), (8, 3, 5))
    assert model.latent_index(z, 0.0, 3, 5).shape == (8 * 15,)


def test_spreads_below_the_bound_can_rise():
    h_s = HyperSynthesis(2)
    with torch.no_grad():
        h_s.deconv[2].bias.fill_(-5)
    sigma = h_s(torch.zeros(1, 2, 1, 1))
    assert (sigma == LEAST_SIGMA).all()
    (-sigma.sum()).backward(retain_graph=True)
    assert (h_s.deconv[2].bias.grad == -16).all()
    h_s.zero_grad()
    sigma.sum().backward()
    assert (h_s.deconv[2].bias.grad == 0).all()
