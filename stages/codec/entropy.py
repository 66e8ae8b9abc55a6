"""Integer coding tables, and the range coder that runs on them.

A symbol is an int16. A table gives its support (consecutive integers from `offset` on) one frequency each and one more,
the last, to the escape that stands for everything else; the frequencies are at least 1 and add up to 2^16. Tables
are made once, in float, when a model is exported, and stored with its weights as integers, so that no machine ever
computes a probability again.

The coded words of a set of symbols, each with the index of its table:

1. the symbols' entries (symbol - offset, or the escape), sorted by table index, stably, by the range coder of
   `constriction` (queue, 32-bit words, 24-bit probabilities). Entry i of n with cumulative frequency F(i) starts at
   i + floor(F(i) * (2^24 - n) / 2^16): exact in float64, so the same on every machine;
2. the symbols that were escaped, in the same order, as symbol + 32768, uniform over 2^16;
3. words as little-endian uint32, one zero word at the end left out.

Where the tables of some symbols follow from other symbols, as with a hyperprior, the symbols form several groups: steps
1 and 2 for each group, one after the other in the same stream, then step 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.codec.errors import BitstreamError, CodecError

__all__ = ["PRECISION", "TOTAL", "CodingTables", "SymbolReader", "decode_symbols", "encode_groups", "encode_symbols"]

PRECISION = 16
TOTAL = 1 << PRECISION
"""What the frequencies of a table add up to."""
MAX_ENTRIES = 1 << 14
_LOWEST, _HIGHEST = -(1 << 15), (1 << 15) - 1
_RAW = 1 << 16
_DEFAULT_TAIL = 2.0**-17

_queue: Any = constriction.stream.queue
_model: Any = constriction.stream.model

Ints = NDArray[np.int32]


class CodingTables:
    """The probabilities of a model's symbols, as integers.

    frequencies: (sum of lengths,) of all tables, one behind the other, escape last; lengths: (tables,) entries with the
    escape; offsets: (tables,) the smallest symbol of each support. ValueError where they don't fit together.
    """

    def __init__(self, frequencies: ArrayLike, lengths: ArrayLike, offsets: ArrayLike) -> None:
        self.frequencies: Ints = _int32("frequencies", frequencies)
        self.lengths: Ints = _int32("lengths", lengths)
        self.offsets: Ints = _int32("offsets", offsets)
        self._check()
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self._models: list[Any] = [None] * len(self.lengths)
        cheapest = np.maximum.reduceat(self.frequencies, self._starts[:-1])
        self._least_bits = -np.log2(cheapest / TOTAL)

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def build(
        cls, pmfs: Sequence[NDArray[np.floating[Any]]], offsets: Sequence[int], tail: float = _DEFAULT_TAIL
    ) -> CodingTables:
        """Tables from probabilities: `pmfs[t][i]` is that of symbol `offsets[t] + i`.

        What a pmf lacks to 1 belongs to the escape. Symbols at either end go to the escape as well, as long as less
        than `tail` of the probability is lost at that end.
        """
        cut = [_without_tails(np.asarray(p, np.float64), o, tail) for p, o in zip(pmfs, offsets, strict=True)]
        frequencies = [_frequencies(pmf) for pmf, _ in cut]
        return cls(np.concatenate(frequencies), [len(f) for f in frequencies], [offset for _, offset in cut])

    @classmethod
    def joined(cls, parts: Sequence[CodingTables]) -> CodingTables:
        """The tables of several, one behind the other."""
        frequencies, lengths, offsets = zip(*((p.frequencies, p.lengths, p.offsets) for p in parts), strict=True)
        return cls(np.concatenate(frequencies), np.concatenate(lengths), np.concatenate(offsets))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> CodingTables:
        """The inverse of `tensors`."""
        return cls(tensors["frequencies"], tensors["lengths"], tensors["offsets"])

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The tables as they are stored."""
        return {"frequencies": self.frequencies.astype(np.uint16), "lengths": self.lengths, "offsets": self.offsets}

    def table(self, index: int) -> Ints:
        """The frequencies of one table, escape last."""
        return self.frequencies[self._starts[index] : self._starts[index + 1]]

    def bits(self, symbols: ArrayLike, index: ArrayLike) -> float:
        """What the symbols cost by these tables, the coder's few bytes at the end not counted."""
        flat, tables = _aligned(symbols, index, len(self))
        entries = _entries(flat, self.offsets[tables], self.lengths[tables])
        cost = PRECISION - np.log2(self.frequencies[self._starts[tables] + entries])
        return float(cost.sum() + PRECISION * np.count_nonzero(entries == self.lengths[tables] - 1))

    def least_bits(self, index: ArrayLike, repeat: ArrayLike = 1) -> float:
        """What the cheapest possible symbols would cost, so many of each: a shorter stream can't be a real one."""
        return float((self._least_bits[np.asarray(index)] * repeat).sum())

    def models(self, used: NDArray[np.int64]) -> list[Any]:
        """The coder's models of some tables, made when first used and kept."""
        return [self._models[table] or self._model(table) for table in used.tolist()]

    def _model(self, table: int) -> Any:
        # `perfect=False` is the construction that the module's docstring specifies; it never optimises in float.
        self._models[table] = _model.Categorical(self.table(table) / float(TOTAL), perfect=False)
        return self._models[table]

    def _check(self) -> None:
        lengths, offsets = self.lengths, self.offsets
        if len(lengths) == 0 or len(lengths) != len(offsets):
            raise ValueError(f"{len(lengths)} lengths and {len(offsets)} offsets of coding tables, expected as many")
        if lengths.min() < 2 or lengths.max() > MAX_ENTRIES:
            raise ValueError(f"a coding table has {lengths.min()} to {lengths.max()} entries, 2 to {MAX_ENTRIES} fit")
        if offsets.min() < _LOWEST or (offsets.astype(np.int64) + lengths - 2).max() > _HIGHEST:
            raise ValueError(f"a coding table reaches beyond {_LOWEST} to {_HIGHEST}")
        if len(self.frequencies) != int(lengths.sum(dtype=np.int64)):
            raise ValueError(f"{len(self.frequencies)} frequencies for {lengths.sum(dtype=np.int64)} table entries")
        sums = np.add.reduceat(self.frequencies.astype(np.int64), np.cumsum(lengths) - lengths)
        if self.frequencies.min() < 1 or (sums != TOTAL).any():
            raise ValueError(f"the frequencies of a coding table are not positive numbers that add up to {TOTAL}")


def encode_symbols(symbols: ArrayLike, index: ArrayLike, tables: CodingTables) -> bytes:
    """Coded words of `symbols` (any shape, int16 range), `index` giving each one's table.

    A shorter `index` covers equal runs: with (C, h, w) symbols it may have C entries. CodecError beyond int16.
    """
    return encode_groups([(symbols, index)], tables)


def encode_groups(groups: Sequence[tuple[ArrayLike, ArrayLike]], tables: CodingTables) -> bytes:
    """Coded words of several groups of symbols, each with its index as in `encode_symbols`."""
    encoder = _queue.RangeEncoder()
    for symbols, index in groups:
        _encode(encoder, symbols, index, tables)
    return _trimmed(encoder.get_compressed())


def decode_symbols(data: bytes, index: ArrayLike, tables: CodingTables, repeat: int = 1) -> Ints:
    """The symbols, (len(index) * repeat,); BitstreamError unless `data` is exactly what `encode_symbols` makes of them.

    Work and memory are bounded by the number of symbols asked for, whatever the bytes.
    """
    reader = SymbolReader(data, tables)
    symbols = reader.read(index, repeat)
    reader.close()
    return symbols


class SymbolReader:
    """Reads groups of symbols, one after the other, from what `encode_groups` wrote."""

    def __init__(self, data: bytes, tables: CodingTables) -> None:
        if len(data) % 4:
            raise BitstreamError(f"the {len(data)} coded bytes are damaged: words have four bytes each")
        self._data, self._tables = data, tables
        self._decoder = _queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
        self._read: list[tuple[Ints, Ints, _Order]] = []
        self._least = 0.0

    def read(self, index: ArrayLike, repeat: int = 1) -> Ints:
        """The next group, (len(index) * repeat,); BitstreamError where the bytes can't hold it."""
        runs = _indices(index)
        order = _Order.of(runs, repeat, self._tables)
        self._least += self._tables.least_bits(order.used, order.counts)
        if self._least * 0.99 > 8 * len(self._data) + 128:
            count = runs.size * repeat
            raise BitstreamError(
                f"{len(self._data)} coded bytes can't hold {count} symbols, which need {self._least:.0f} bits"
            )
        try:
            entries, raw = _decode_sorted(self._decoder, order)
        except (AssertionError, ValueError) as error:  # constriction's answer to words that no encoder writes
            raise BitstreamError(f"the {len(self._data)} coded bytes are damaged: {error}") from error
        self._read.append((entries, raw, order))
        symbols = entries + order.of_each(self._tables.offsets)
        if raw.size:
            symbols[order.escaped(entries)] = raw
        return order.unsorted(symbols)

    def close(self) -> None:
        """BitstreamError unless the bytes are exactly what an encoder makes of everything that was read."""
        encoder = _queue.RangeEncoder()
        for entries, raw, order in self._read:
            _encode_sorted(encoder, entries, raw, order)
        if _trimmed(encoder.get_compressed()) != self._data or not all(_escaped_rightly(*read) for read in self._read):
            raise BitstreamError(
                f"the {len(self._data)} coded bytes are damaged: the decoded symbols would be coded differently"
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """Symbols sorted by table, stably: where each came from, and the tables in use, ascending, with their shares."""

    tables: CodingTables
    order: NDArray[np.int64]
    """(runs,): the place of each sorted run among those given."""
    repeat: int
    """Symbols in a run."""
    used: NDArray[np.int64]
    counts: NDArray[np.int64]
    """Symbols of each table in use."""
    models: list[Any]
    """The coder's, of each table in use."""

    @classmethod
    def of(cls, runs: NDArray[Any], repeat: int, tables: CodingTables) -> _Order:
        counts = np.bincount(runs, minlength=1)
        used = np.flatnonzero(counts)
        narrow = runs.astype(np.uint16) if counts.size <= 1 << 16 else runs  # sorted by radix: ten times faster
        order = np.argsort(narrow, kind="stable")
        return cls(tables, order, repeat, used, counts[used] * repeat, tables.models(used))

    def sorted(self, symbols: Ints) -> Ints:
        """Symbols in the order in which they are coded."""
        found: Ints = symbols.reshape(-1, max(self.repeat, 1))[self.order].reshape(-1)
        return found

    def unsorted(self, symbols: Ints) -> Ints:
        """The inverse of `sorted`."""
        found = np.empty((self.order.size, self.repeat), np.int32)
        found[self.order] = symbols.reshape(found.shape)
        return found.reshape(-1)

    def of_each(self, values: Ints) -> Ints:
        """Values of the tables, for each of the sorted symbols."""
        found: Ints = np.repeat(values[self.used], self.counts)
        return found

    def escaped(self, entries: Ints) -> NDArray[np.bool_]:
        """Which of the sorted entries are the escape, the last of their table."""
        found: NDArray[np.bool_] = entries == self.of_each(self.tables.lengths) - 1
        return found


def _encode(encoder: Any, symbols: ArrayLike, index: ArrayLike, tables: CodingTables) -> None:
    flat = np.asarray(symbols, dtype=np.int32).reshape(-1)
    if flat.size and (flat.min() < _LOWEST or flat.max() > _HIGHEST):
        raise CodecError(f"a latent value is outside {_LOWEST} to {_HIGHEST}: is the picture finite and within [0, 1]?")
    runs = _indices(index)
    order = _Order.of(runs, _repeat(flat.size, runs.size), tables)
    ordered = order.sorted(flat)
    entries = _entries(ordered, order.of_each(tables.offsets), order.of_each(tables.lengths))
    _encode_sorted(encoder, entries, ordered[order.escaped(entries)], order)


def _encode_sorted(encoder: Any, entries: Ints, raw: Ints, order: _Order) -> None:
    """`raw`: the symbols that were escaped."""
    start = 0
    for model, count in zip(order.models, order.counts.tolist(), strict=True):
        encoder.encode(entries[start : start + count], model)
        start += count
    if raw.size:
        encoder.encode((raw - _LOWEST).astype(np.int32), _model.Uniform(_RAW))


def _decode_sorted(decoder: Any, order: _Order) -> tuple[Ints, Ints]:
    """The entries, and the symbols that were escaped."""
    decode = decoder.decode
    parts = [decode(model, count) for model, count in zip(order.models, order.counts.tolist(), strict=True)]
    entries = np.concatenate(parts) if parts else np.empty(0, np.int32)
    escapes = int(np.count_nonzero(order.escaped(entries)))
    raw = decode(_model.Uniform(_RAW), escapes) + _LOWEST if escapes else np.empty(0, np.int32)
    return entries, raw


def _escaped_rightly(entries: Ints, raw: Ints, order: _Order) -> bool:
    """Whether every symbol that was escaped lies outside its table."""
    if not raw.size:
        return True
    escapes = order.escaped(entries)
    offsets, lengths = (order.of_each(t)[escapes] for t in (order.tables.offsets, order.tables.lengths))
    return bool((_entries(raw, offsets, lengths) == lengths - 1).all())


def _entries(symbols: Ints, offsets: Ints, lengths: Ints) -> Ints:
    """Where the symbols stand in their tables; the escape for those outside."""
    entries = symbols - offsets
    outside = (entries < 0) | (entries >= lengths - 1)
    found: Ints = np.where(outside, lengths - 1, entries).astype(np.int32, copy=False)
    return found


def _aligned(symbols: ArrayLike, index: ArrayLike, tables: int) -> tuple[Ints, NDArray[Any]]:
    flat = np.asarray(symbols, dtype=np.int32).reshape(-1)
    runs = _indices(index)
    if runs.size and not 0 <= runs.min() <= runs.max() < tables:
        raise ValueError(f"table indices from {runs.min()} to {runs.max()}, but there are {tables} tables")
    return flat, np.repeat(runs, _repeat(flat.size, runs.size))


def _indices(index: ArrayLike) -> NDArray[Any]:
    """Flat, of whatever kind of integer."""
    flat = np.asarray(index).reshape(-1)
    return flat if flat.size else flat.astype(np.int64)


def _repeat(symbols: int, runs: int) -> int:
    if runs == 0 or symbols % runs:
        if symbols == 0:
            return 0
        raise ValueError(f"{symbols} symbols can't be split into {runs} equal runs")
    return symbols // runs


def _trimmed(words: NDArray[np.uint32]) -> bytes:
    """The words as bytes. The decoder takes a missing word for zero; one in twenty streams saves four bytes so."""
    return words[: -1 if words.size and words[-1] == 0 else None].astype("<u4").tobytes()


def _without_tails(pmf: NDArray[np.float64], offset: int, tail: float) -> tuple[NDArray[np.float64], int]:
    if pmf.ndim != 1 or pmf.size == 0 or not np.isfinite(pmf).all() or pmf.min() < 0 or pmf.sum() <= 0:
        raise ValueError("a pmf is a row of finite probabilities, not all of them zero")
    first = int(np.searchsorted(np.cumsum(pmf), tail, side="right")) if tail else 0
    last = pmf.size - (int(np.searchsorted(np.cumsum(pmf[::-1]), tail, side="right")) if tail else 0)
    if first >= last:  # all the probability is at the ends, such as for a support of one symbol
        first, last = 0, pmf.size
    return pmf[first:last], int(offset) + first


def _frequencies(pmf: NDArray[np.float64]) -> Ints:
    """Integers from 1 on that add up to TOTAL, in proportion to the pmf and, at the end, the escape."""
    shares = np.append(pmf, max(1.0 - pmf.sum(), 0.0))
    if shares.size > MAX_ENTRIES:
        raise ValueError(f"a coding table has at most {MAX_ENTRIES} entries, this one would need {shares.size}")
    shares = shares / shares.sum() * (TOTAL - shares.size)
    frequencies: Ints = 1 + np.floor(shares).astype(np.int32)
    missing = max(TOTAL - int(frequencies.sum()), 0)
    frequencies[np.argsort(np.floor(shares) - shares, kind="stable")[:missing]] += 1
    frequencies[np.argmax(frequencies)] += TOTAL - frequencies.sum()  # rounding of the division, if any
    return frequencies


def _int32(name: str, values: ArrayLike) -> Ints:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} of coding tables are a row of integers, not {array.dtype} of shape {array.shape}")
    if array.size and (array.min() < -(1 << 31) or array.max() >= 1 << 31):
        raise ValueError(f"{name} of coding tables exceed 32 bits")
    return np.ascontiguousarray(array, dtype=np.int32)
