"""Rows, means and curves."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tools.evaluation.table import Row, RowFile, curves_of, means_of, ms_ssim_in_db


def row(codec: str, quality: str, image: str, bpp: float, ms_ssim: float | None = 0.9) -> Row:
    return Row(codec, quality, "street", image, bpp, 30.0, ms_ssim, 2.0, 4.0)


def test_means_are_over_the_pictures_of_a_quality() -> None:
    rows = [row("a", "1", "x", 0.1), row("a", "2", "x", 0.4), row("a", "1", "y", 0.3, 0.8)]
    first, second = means_of(rows)
    assert (first.quality, first.image, first.bpp, first.ms_ssim) == (
        "1",
        "mean",
        pytest.approx(0.2),
        pytest.approx(0.85),
    )
    assert second.bpp == pytest.approx(0.4)


def test_curves_rise_in_rate_and_tell_ms_ssim_in_db() -> None:
    (curve,) = curves_of([row("a", "9", "mean", 0.5, 0.99), row("a", "1", "mean", 0.1, 0.9)])
    assert curve.bpp == [0.1, 0.5]
    assert curve.ms_ssim_db == pytest.approx([10.0, 20.0])
    assert ms_ssim_in_db(1.0) == 100.0


def test_ms_ssim_is_unknown_where_a_picture_is_too_small() -> None:
    (mean,) = means_of([row("a", "1", "x", 0.1), row("a", "1", "y", 0.1, None)])
    assert mean.ms_ssim is None
    assert curves_of([mean])[0].ms_ssim_db is None


def test_the_file_has_the_documented_columns(tmp_path: Path) -> None:
    with RowFile(tmp_path / "rd.csv") as file:
        file.write([row("a", "1", "x", 0.123456789, None)])
    with (tmp_path / "rd.csv").open(newline="") as file_:
        header, line = csv.reader(file_)
    assert header == ["codec", "quality", "data", "image", "bpp", "psnr_db", "ms_ssim", "encode_ms", "decode_ms"]
    assert line == ["a", "1", "street", "x", "0.123457", "30", "", "2", "4"]
