"""The integer context model with random weights: exact everywhere, total whatever it is sent, and its own inverse."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stages.codec import load_codec
from stages.codec.disparity import context as module
from stages.codec.disparity.context import LEVELS, TABLES, Context, grid, plan, residuals, restored
from stages.codec.disparity.model import Disparity
from stages.codec.entropy import CodingTables, SymbolReader, encode_groups
from stages.codec.errors import BitstreamError
from stages.codec.weights_file import save

CHANNELS = 70
SIZES = [(1, 1), (1, 6), (5, 1), (7, 9), (24, 20)]


def filled(channels: int = CHANNELS, hidden: int = 12, seed: int = 0) -> Context:
    """A context model with weights large enough to reach all its limits."""
    rng = torch.Generator().manual_seed(seed)
    made = Context(channels, hidden)

    def random(buffer: torch.Tensor, low: int, high: int) -> None:
        buffer.copy_(torch.randint(low, high + 1, buffer.shape, generator=rng))

    random(made.get_buffer("level"), 0, LEVELS - 1)
    random(made.get_buffer("base"), 0, 16 * LEVELS)
    random(made.get_buffer("feature"), -127, 127)
    for layers in made.layers:
        random(layers.get_buffer("weight"), -60, 60)
        random(layers.get_buffer("bias"), -50_000, 50_000)
        layers.get_buffer("shift").copy_(torch.tensor([6, 6, 8, 11]))
    made.check()
    return made


def drawn(h: int, w: int, seed: int = 0, channels: int = CHANNELS) -> NDArray[np.int32]:
    """Symbols like a latent's: large ones in the first channels, zeros in the last."""
    rng = np.random.default_rng(seed)
    spread = 30.0 / (1 + np.arange(channels))[:, None, None]
    symbols: NDArray[np.int32] = np.round(rng.laplace(0, spread, (channels, h, w))).astype(np.int32)
    return symbols


@pytest.fixture(scope="module")
def tables() -> CodingTables:
    symbols = np.arange(-40, 41)
    pmfs = [np.exp(-np.abs(symbols) / (0.1 + level / 4)) for level in range(LEVELS) for _ in range(4)]
    pmfs = [p / p.sum() for p in pmfs] + [np.full(CHANNELS + 1, 1 / (CHANNELS + 1))]
    return CodingTables.build(pmfs, [-40] * TABLES + [0])


@pytest.fixture
def restored_settings() -> Iterator[None]:
    """Whatever a test does to threads and libraries is undone."""
    threads, mkldnn = torch.get_num_threads(), torch.backends.mkldnn.enabled
    yield
    torch.set_num_threads(threads)
    torch.backends.mkldnn.enabled = mkldnn
    torch.set_float32_matmul_precision("highest")


def same(a: list, b: list) -> bool:
    return all(np.array_equal(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one, two, strict=True))


@pytest.mark.parametrize(("h", "w"), SIZES)
@pytest.mark.parametrize("channels", [1, 3, 12, 70, 200])
def test_passes_cover_every_symbol_once(h: int, w: int, channels: int) -> None:
    covered = np.zeros((channels, h, w), int)
    for one in plan(channels):
        covered[one.first : one.last] += grid(one.where, h, w)
    assert (covered == 1).all()


@pytest.mark.parametrize(("h", "w"), SIZES)
@pytest.mark.parametrize("quality", [0.0, 23.6, 63.0])
def test_symbols_come_back_through_the_coder(tables: CodingTables, h: int, w: int, quality: float) -> None:
    context, symbols = filled(), drawn(h, w)
    reader = SymbolReader(encode_groups(residuals(context, symbols, quality), tables), tables)
    np.testing.assert_array_equal(restored(context, reader.read, quality, h, w), symbols)
    reader.close()


def test_a_latent_of_zeros_is_one_number(tables: CodingTables) -> None:
    context, symbols = filled(), np.zeros((CHANNELS, 4, 4), np.int32)
    groups = residuals(context, symbols, 10.0)
    assert len(groups) == 1
    reader = SymbolReader(encode_groups(groups, tables), tables)
    np.testing.assert_array_equal(restored(context, reader.read, 10.0, 4, 4), symbols)


@pytest.mark.parametrize("channels", [1, 5, 17])
def test_latents_of_few_channels_come_back(channels: int) -> None:
    context, symbols = filled(channels), drawn(5, 6, channels=channels)
    numbers = iter(residuals(context, symbols, 5.0))
    np.testing.assert_array_equal(restored(context, lambda index: next(numbers)[0], 5.0, 5, 6), symbols)


@pytest.mark.usefixtures("restored_settings")
def test_tables_are_the_same_with_other_threads_libraries_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    context, symbols = filled(), drawn(24, 33)
    torch.set_num_threads(1)
    expected = residuals(context, symbols, 30.0)
    assert len({int(i) for _, index in expected for i in index}) > 50
    torch.set_num_threads(2)
    assert same(residuals(context, symbols, 30.0), expected)
    torch.backends.mkldnn.enabled = False
    assert same(residuals(context, symbols, 30.0), expected)
    torch.set_float32_matmul_precision("medium")  # would allow bf16, so float64 is used
    assert module._exact(torch.device("cpu")) is torch.float64
    assert same(residuals(context, symbols, 30.0), expected)
    torch.set_float32_matmul_precision("highest")
    assert module._exact(torch.device("cpu")) is torch.float32
    monkeypatch.setattr(module, "_exact", lambda device: torch.float64)
    assert same(residuals(context, symbols, 30.0), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same(residuals(context, symbols, 30.0), expected)


@pytest.mark.parametrize("path", ["backends", "backends.mkldnn", "backends.mkldnn.matmul"])
def test_products_are_in_float64_where_a_setting_allows_less_than_float32(path: str) -> None:
    place = operator.attrgetter(path)(torch)
    before = place.fp32_precision
    place.fp32_precision = "bf16"
    try:
        assert module._exact(torch.device("cpu")) is torch.float64
    finally:
        place.fp32_precision = before


@pytest.mark.parametrize("seed", range(3))
def test_a_pass_equals_whole_numbers_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    context = filled(seed=seed)
    for layers in context._all():
        features = rng.integers(-127, 128, (11, 9, layers.inputs + 1))
        values = rng.integers(-255, 256, (11, 25 if layers.means else 0, layers.signed if layers.means else 0))
        base = rng.integers(0, 900, layers.outputs)
        floats = (torch.from_numpy(a.astype(np.float32)) for a in (features, values))
        level, mean = layers.network(torch.float32)(*floats, 40, torch.from_numpy(base))
        expected = by_whole_numbers(layers, features, values, 40, base, rng)
        np.testing.assert_array_equal(level.numpy(), expected[0])
        np.testing.assert_array_equal(mean.numpy(), expected[1])


def by_whole_numbers(layers, features, values, quality, base, rng):
    """The specification of a pass in 64-bit integers, summed in random order."""
    weight = {name: matrix.numpy().astype(np.int64) for name, matrix in layers.weights().items()}
    bias = np.split(layers.get_buffer("bias").numpy().astype(np.int64), np.cumsum(list(layers.biases.values()))[:-1])
    shift = layers.get_buffer("shift").tolist()

    def product(x, w):
        order = rng.permutation(len(w))
        return x[:, order] @ w[order]

    def rescaled(x, bits):
        return (x + (1 << bits - 1)) >> bits

    count = len(features)
    inputs = np.concatenate([features.reshape(count, -1), np.full((count, 1), 2 * quality - 63)], 1)
    x = rescaled(product(inputs, weight["enter"]) + bias[0], shift[0]).clip(0, 1023)
    x = rescaled(product(x, weight["inner"]) + bias[1], shift[1]).clip(0, 1023)
    sums = product(x, weight["leave"]) + bias[2]
    level, mean = sums[:, : layers.outputs] + (base << shift[2]), sums[:, layers.outputs :]
    if layers.own:
        level[:, : layers.own] += (features[:, :, layers.one.first + 1 :] * weight["around"]).sum(1)
    if layers.means:
        mean = mean + product(values.reshape(count, -1), weight["value"])
    return (level >> shift[2] + 4).clip(0, LEVELS - 1), rescaled(mean, shift[3]).clip(-4096, 4096)


@pytest.mark.parametrize("extreme", [-(1 << 15) - 5000, (1 << 15) + 5000])
def test_indices_stay_in_range_whatever_is_decoded(extreme: int) -> None:
    context = filled()

    def read(index: NDArray[np.int64]) -> NDArray[np.int32]:
        assert 0 <= index.min() <= index.max() <= TABLES
        return np.full(index.size, extreme, np.int32)

    for active in (0, 1, CHANNELS):
        first = iter([np.array([active], np.int32)])
        symbols = restored(context, lambda index: next(first, None) if index[0] == TABLES else read(index), 63.0, 6, 7)  # noqa: B023
        assert symbols.shape == (CHANNELS, 6, 7)


@pytest.mark.parametrize("seed", range(30))
def test_random_words_are_refused_or_decoded(tables: CodingTables, seed: int) -> None:
    rng, context = np.random.default_rng(seed), filled()
    reader = SymbolReader(rng.bytes(4 * int(rng.integers(0, 400))), tables)
    try:
        symbols = restored(context, reader.read, 20.0, 6, 9)
    except BitstreamError:
        return
    assert symbols.shape == (CHANNELS, 6, 9)


def test_weights_whose_sums_are_not_exact_are_refused() -> None:
    context = filled()
    context.layers[9].get_buffer("weight").fill_(32767)
    with pytest.raises(ValueError, match="pass 9 of the context model can reach"):
        context.check()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of a random codec with a context model."""
    torch.manual_seed(0)
    model = Disparity(latent=20, trunk=16, head=16, context=12)
    with torch.no_grad():
        model.analysis.normal_(0, 0.02)
        model.synthesis.normal_(0, 0.02)
    model.set_steps(0.5, 0.05)
    model.context.load_state_dict(filled(20).state_dict())
    symbols = np.arange(-40, 41)
    pmfs = [np.exp(-np.abs(symbols) / (0.1 + level / 4)) for level in range(LEVELS) for _ in range(4)]
    tables = CodingTables.build([p / p.sum() for p in pmfs] + [np.full(21, 1 / 21)], [-40] * TABLES + [0])
    path = tmp_path_factory.mktemp("weights") / "context.safetensors"
    save(path, model, tables, {}, float16=True)
    return path


@pytest.mark.usefixtures("restored_settings")
@pytest.mark.parametrize("quality", [0.0, 30.5, 63.0])
def test_payload_of_one_thread_decodes_with_two_and_without_one_dnn(weights: Path, quality: float) -> None:
    torch.manual_seed(1)
    codec, x = load_codec(weights), torch.rand(1, 3, 150, 230)
    torch.set_num_threads(1)
    payload = codec.encode(x, quality)
    symbols = codec.symbols(payload)
    assert torch.equal(symbols, codec._model.analyse(codec._fitted(x), quality))
    assert codec.decode(payload, x).shape == x.shape
    torch.set_num_threads(2)
    assert torch.equal(codec.symbols(payload), symbols)
    torch.backends.mkldnn.enabled = False
    assert torch.equal(codec.symbols(payload), symbols)


@pytest.mark.needs_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_payload_decodes_on_the_other_device(weights: Path) -> None:
    cpu, cuda = load_codec(weights), load_codec(weights, device="cuda")
    for writer, reader in ((cpu, cuda), (cuda, cpu)):
        payload = writer.encode(torch.rand(1, 3, 150, 230), 40.0)
        assert torch.equal(reader.symbols(payload), writer.symbols(payload))


def test_damaged_payloads_are_refused(weights: Path) -> None:
    torch.manual_seed(1)
    codec, rng = load_codec(weights), np.random.default_rng(0)
    payload = codec.encode(torch.rand(1, 3, 64, 96), 30.0)
    for _ in range(60):
        damaged = bytearray(payload)
        damaged[int(rng.integers(8, len(payload)))] ^= int(rng.integers(1, 256))
        with pytest.raises(BitstreamError):
            codec.symbols(bytes(damaged))


def test_a_network_without_context_model_has_its_tables_by_channel() -> None:
    model = Disparity(latent=8, trunk=16, head=16)
    assert "context" not in model.config
    with pytest.raises(ValueError, match="no context model"):
        model.residuals(np.zeros((8, 1, 1), np.int32), 0.0)
    with pytest.raises(ValueError, match="out of bounds"):
        Disparity(context=1000)
