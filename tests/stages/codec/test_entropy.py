"""Coding tables and the range coder."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.codec.entropy import (
    TOTAL,
    CodingTables,
    SymbolReader,
    decode_symbols,
    encode_groups,
    encode_symbols,
)
from stages.codec.errors import BitstreamError, CodecError


def laplace_tables(scales, reach=200):
    k = np.arange(-reach, reach + 1)
    pmfs = [np.exp(-np.abs(k) / s) for s in scales]
    return CodingTables.build([p / p.sum() for p in pmfs], [-reach] * len(pmfs))


@st.composite
def cases(draw):
    """Tables, an index and symbols, some of which are outside their tables' supports."""
    count = draw(st.integers(1, 5))
    weights = [draw(st.lists(st.integers(0, 1000), min_size=1, max_size=40)) for _ in range(count)]
    pmfs = [
        (np.array(w) + (sum(w) == 0)) / (sum(w) + (sum(w) == 0) * len(w) + draw(st.integers(0, 5))) for w in weights
    ]
    offsets = [draw(st.integers(-60, 30)) for _ in range(count)]
    tables = CodingTables.build(pmfs, offsets, tail=draw(st.sampled_from([0, 2**-17, 0.01])))
    index = draw(st.lists(st.integers(0, count - 1), max_size=60))
    values = st.one_of(st.integers(-70, 80), st.integers(-(2**15), 2**15 - 1))
    return tables, np.array(index, int), np.array([draw(values) for _ in index], int)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_symbols_come_back_whatever_they_are(case):
    tables, index, symbols = case
    data = encode_symbols(symbols, index, tables)
    assert (decode_symbols(data, index, tables) == symbols).all()
    assert 8 * len(data) <= tables.bits(symbols, index) * 1.002 + 64


@settings(max_examples=200, deadline=None)
@given(cases(), st.binary(max_size=64))
def test_random_bytes_are_symbols_or_bitstream_error(case, data):
    tables, index, _ = case
    try:
        symbols = decode_symbols(data, index, tables)
    except BitstreamError:
        return
    assert encode_symbols(symbols, index, tables) == data


def test_index_per_run_equals_index_per_symbol():
    tables = laplace_tables([1.0, 5.0, 0.3])
    runs = np.array([2, 0, 2, 1])
    symbols = np.random.default_rng(1).integers(-9, 9, (4, 5, 6))
    data = encode_symbols(symbols, runs, tables)
    assert data == encode_symbols(symbols, np.repeat(runs, 30), tables)
    assert (decode_symbols(data, runs, tables, repeat=30) == symbols.reshape(-1)).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(cases(), min_size=1, max_size=3))
def test_groups_come_back_one_after_the_other(group_cases):
    tables = CodingTables.joined([tables for tables, _, _ in group_cases])
    starts = np.cumsum([0] + [len(tables) for tables, _, _ in group_cases])
    groups = [(symbols, index + start) for (_, index, symbols), start in zip(group_cases, starts, strict=False)]
    data = encode_groups(groups, tables)
    reader = SymbolReader(data, tables)
    for symbols, index in groups:
        assert (reader.read(index) == symbols).all()
    reader.close()
    assert 8 * len(data) <= sum(tables.bits(*group) for group in groups) * 1.002 + 64


def test_group_that_is_left_unread_is_noticed():
    tables = laplace_tables([3.0])
    symbols = np.random.default_rng(4).integers(-5, 5, 100)
    reader = SymbolReader(encode_groups([(symbols, [0]), (symbols, [0])], tables), tables)
    reader.read([0], 100)
    with pytest.raises(BitstreamError, match="damaged"):
        reader.close()


def test_bytes_are_too_few_for_all_groups_together():
    tables = laplace_tables([3.0])
    reader = SymbolReader(encode_symbols(np.zeros(100, int), [0], tables), tables)
    reader.read([0], 100)
    with pytest.raises(BitstreamError, match="can't hold"):
        reader.read([0], 10_000)


def test_no_symbols_are_no_bytes():
    tables = laplace_tables([1.0])
    assert encode_symbols([], [], tables) == b""
    assert decode_symbols(b"", [], tables).size == 0


def test_certain_symbols_cost_almost_nothing():
    tables = CodingTables.build([np.array([1.0])], [0])
    data = encode_symbols(np.zeros(100_000, int), [0], tables)
    assert len(data) <= 8
    assert not decode_symbols(data, [0], tables, repeat=100_000).any()


def test_coded_words_lie_in_the_interval_that_the_specification_gives():
    """An exact interval, in integers of any length, from the docstring's formula alone."""
    rng = np.random.default_rng(2)
    tables = laplace_tables([0.2, 1.0, 8.0, 30.0])
    for _ in range(40):
        index = np.sort(rng.integers(0, 4, 50))
        symbols = np.round(rng.laplace(0, np.array([0.2, 1, 8, 30])[index])).astype(int)
        low, width, digits = 0, 2**64 - 1, 2
        for symbol, t in zip(symbols.tolist(), index.tolist(), strict=True):
            frequencies, n = tables.table(t).tolist(), int(tables.lengths[t])
            starts = [i + sum(frequencies[:i]) * (2**24 - n) // TOTAL for i in range(n)] + [2**24]
            entry = symbol - int(tables.offsets[t])
            assert 0 <= entry < n - 1, "the case is meant to be without escapes"
            scale = width >> 24
            low, width = low + scale * starts[entry], scale * (starts[entry + 1] - starts[entry])
            while width < 2**32:
                low, width, digits = low << 32, width << 32, digits + 1
        words = np.frombuffer(encode_symbols(symbols, index, tables), "<u4").tolist()
        value = sum(word << 32 * (digits - 1 - i) for i, word in enumerate(words))
        assert low <= value < low + width


def test_golden_words():
    """Bits that were made once decode for ever."""
    tables = CodingTables([60000, 5000, 500, 36, 1, 65535], [4, 2], [-1, 7])
    symbols, index = [0, -1, -1, 1, 300, -1, 7, -32768], [0, 0, 0, 0, 0, 0, 1, 0]
    data = bytes.fromhex("39a3bcfa0c73dce2004c7621")
    assert encode_symbols(symbols, index, tables) == data
    assert decode_symbols(data, index, tables).tolist() == symbols


@pytest.mark.parametrize("extra", [b"\0", b"abc", b"\0\0\0\0", b"abcd", b"abcdefgh"])
def test_trailing_bytes_are_refused(extra):
    tables = laplace_tables([3.0])
    data = encode_symbols(np.random.default_rng(3).integers(-10, 10, 200), [0], tables)
    with pytest.raises(BitstreamError, match="damaged"):
        decode_symbols(data + extra, [0], tables, repeat=200)


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 8, 12])
def test_missing_bytes_are_refused_or_other_symbols(missing):
    """Words that are cut off may leave another legal stream: then the payload's checksum decides."""
    tables = laplace_tables([3.0])
    symbols = np.random.default_rng(3).integers(-10, 10, 200)
    data = encode_symbols(symbols, [0], tables)
    try:
        found = decode_symbols(data[:-missing], [0], tables, repeat=200)
    except BitstreamError:
        return
    assert (found != symbols).any()


def test_too_few_bytes_are_refused_before_decoding():
    tables = laplace_tables([30.0])
    with pytest.raises(BitstreamError, match="can't hold"):
        decode_symbols(b"\1" * 20, [0], tables, repeat=10**9)


@pytest.mark.parametrize("value", [2**15, -(2**15) - 1])
def test_symbols_beyond_int16_are_refused(value):
    with pytest.raises(CodecError, match="outside"):
        encode_symbols([value], [0], laplace_tables([1.0]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300).filter(lambda p: sum(p) > 0))
def test_built_tables_are_whole_and_near_the_probabilities(weights):
    pmf = np.array(weights) / sum(weights)
    tables = CodingTables.build([pmf], [-3], tail=0)
    frequencies = tables.table(0)
    assert frequencies.sum() == TOTAL
    assert frequencies.min() >= 1
    assert np.abs(frequencies[:-1] / TOTAL - pmf).max() <= (len(pmf) + 2) / TOTAL


def test_tails_go_to_the_escape():
    pmf = np.array([1e-7, 1e-6, 0.5, 0.5 - 1.2e-6, 1e-7])
    tables = CodingTables.build([pmf], [10])
    assert tables.offsets.tolist() == [12]
    assert tables.lengths.tolist() == [3]


def test_stored_tables_come_back_equal():
    tables = laplace_tables([0.1, 2.0])
    again = CodingTables.from_tensors(tables.tensors())
    assert tables.tensors()["frequencies"].dtype == np.uint16
    assert all((a == b).all() for a, b in zip(tables.tensors().values(), again.tensors().values(), strict=True))


@pytest.mark.parametrize(
    ("frequencies", "lengths", "offsets", "message"),
    [
        ([1, TOTAL - 1], [2], [0, 0], "offsets"),
        (np.array([], int), [], np.array([], int), "lengths"),
        ([TOTAL], [1], [0], "entries"),
        ([1, TOTAL], [2], [0], "add up"),
        ([0, TOTAL], [2], [0], "add up"),
        ([1, TOTAL - 1], [2], [1 << 15], "beyond"),
        ([1, TOTAL - 1, 5], [2], [0], "3 frequencies"),
        ([0.5, 0.5], [2], [0], "integers"),
        ([1, TOTAL - 1], [2], [1 << 40], "32 bits"),
    ],
)
def test_impossible_tables_are_refused(frequencies, lengths, offsets, message):
    with pytest.raises(ValueError, match=message):
        CodingTables(frequencies, np.array(lengths, int), offsets)


@pytest.mark.parametrize("pmf", [[], [np.nan], [-0.1, 1.1], [0.0], np.zeros((2, 2))])
def test_impossible_probabilities_are_refused(pmf):
    with pytest.raises(ValueError, match="pmf"):
        CodingTables.build([np.array(pmf)], [0])


def test_a_full_frame_is_coded_in_milliseconds():
    """360k symbols by 128 tables: some 4 ms to encode and 14 ms to decode; ten times that is certainly wrong."""
    scales = 20 * 2.0 ** (-np.arange(128) / 16) + 0.15
    tables = laplace_tables(scales)
    symbols = np.round(np.random.default_rng(4).laplace(0, scales[:, None], (128, 2812))).astype(np.int32)
    encode_symbols(symbols, np.arange(128), tables)
    started = time.perf_counter()
    data = encode_symbols(symbols, np.arange(128), tables)
    encoded = time.perf_counter()
    decode_symbols(data, np.arange(128), tables, repeat=2812)
    assert encoded - started < 0.1
    assert time.perf_counter() - encoded < 0.2
