"""What the rows of a ledger amount to, column by column, in a memory that does not grow with them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.row import Row

__all__ = ["SAMPLE", "Column", "column", "pieces"]

SAMPLE = 1 << 18
"""Values of which percentiles are taken; of more, a random choice."""
PIECE = 4096

Floats = NDArray[np.float64]


def pieces(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in lists that fit into memory."""
    rows = iter(rows)
    while piece := list(itertools.islice(rows, PIECE)):
        yield piece


def column(rows: Sequence[Row], name: str) -> Floats:
    """A measurement of each row; NaN where it is missing or not finite."""
    values = np.array([row.values.get(name, np.nan) for row in rows], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


class Column:
    """Values of one kind: their count, sum and extremes, and percentiles, which are exact for up to SAMPLE of them."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.min: float | None = None
        self.max: float | None = None
        self._sample: list[Floats] = []
        self._kept, self._share = 0, 1.0
        self._random = np.random.default_rng(0)

    def add(self, values: Floats) -> None:
        """Take those that are finite."""
        values = values[np.isfinite(values)]
        if not len(values):
            return
        self.count += len(values)
        self.total += float(values.sum())
        low, high = float(values.min()), float(values.max())
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)
        self._keep(values if self._share == 1 else self._choose(values, self._share))

    @property
    def mean(self) -> float | None:
        """None of no values."""
        return self.total / self.count if self.count else None

    def percentile(self, percent: float) -> float | None:
        """None of no values."""
        return float(np.percentile(np.concatenate(self._sample), percent)) if self._kept else None

    def _keep(self, values: Floats) -> None:
        self._sample.append(values)
        self._kept += len(values)
        if self._kept > SAMPLE:
            self._sample = [self._choose(np.concatenate(self._sample), 0.5)]
            self._kept, self._share = len(self._sample[0]), self._share / 2

    def _choose(self, values: Floats, share: float) -> Floats:
        return values[self._random.random(len(values)) < share]
