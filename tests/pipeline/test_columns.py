"""Columns: exact for runs of hours, and close for longer ones."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import columns
from pipeline.columns import Column, column, pieces
from pipeline.row import Row


def test_a_column_knows_its_values():
    values = Column()
    values.add(np.array([3.0, np.nan, 1.0]))
    values.add(np.array([np.inf, 8.0]))
    assert (values.count, values.total, values.min, values.max, values.mean) == (3, 12.0, 1.0, 8.0, 4.0)
    assert (values.percentile(50), values.percentile(95)) == (3.0, pytest.approx(7.5))


def test_a_column_without_values_knows_nothing():
    values = Column()
    values.add(np.array([np.nan]))
    assert (values.count, values.min, values.max, values.mean, values.percentile(50)) == (0, None, None, None, None)


def test_percentiles_of_many_values_are_those_of_a_choice(monkeypatch):
    """Of a periodic column, as the sizes of pictures with keyframes are."""
    monkeypatch.setattr(columns, "SAMPLE", 10_000)
    values = Column()
    for _ in range(100):
        values.add(np.arange(4096.0) % 64)
    assert values.count == 409_600
    assert values.mean == pytest.approx(31.5)
    assert sum(map(len, values._sample)) <= 10_000
    assert values.percentile(50) == pytest.approx(31.5, abs=1)
    assert values.percentile(95) == pytest.approx(60.5, abs=1)


def test_rows_come_in_pieces_and_as_columns():
    rows = [Row(0, 0, "out", {"a": 1.0}), Row(1, 0, "out", {"b": 2.0}), Row(2, 0, "out", {"a": float("inf")})]
    assert list(pieces(iter(rows))) == [rows]
    np.testing.assert_array_equal(column(rows, "a"), [1.0, np.nan, np.nan])
