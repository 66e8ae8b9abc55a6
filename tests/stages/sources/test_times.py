from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SourceError
from stages.sources.times import TimedRow, fill_times, parse_time, read_table, times_of_frames


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01 00:00:01.5", 1_500_000_000),
        ("1970-01-01T00:00:01", 1_000_000_000),
        ("1970-01-01 00:00:00.000000001", 1),
        ("1.044989e-01", 104_498_900),
        ("", None),
        ("inf", None),
        ("1e300", None),
        ("2011-13-01 00:00:00", None),
        ("9999-01-01 00:00:00", None),
        ("2011-09-26 13:02:25.x", None),
    ],
)
def test_times_are_parsed_or_refused(text: str, expected: int | None) -> None:
    assert parse_time(text) == expected


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    assert parse_time(text) is None or isinstance(parse_time(text), int)


@given(st.lists(st.none() | st.integers(-(10**15), 10**15), max_size=30))
def test_filled_times_never_fall(known: list[int | None]) -> None:
    ids = [3 * i for i in range(len(known))]
    times, made_up = fill_times(known, ids, 10.0)
    assert len(times) == len(ids)
    assert times == sorted(times)
    assert made_up >= known.count(None)


def test_a_time_that_falls_back_is_made_up() -> None:
    assert times_of_frames(["0", "5", "2", "6"], [0, 1, 2, 3], 10) == ([0, 5 * 10**9, 5_500_000_000, 6 * 10**9], 1)


def test_a_table_with_a_header_names_frame_and_time(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("position,kitti_frame,timestamp\n0,5,1970-01-01 00:00:01\n1,7,1970-01-01 00:00:02\n")
    assert read_table(path) == [TimedRow(5, 10**9), TimedRow(7, 2 * 10**9)]


def test_a_table_may_be_a_time_per_line(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("0.0\n0.5\n")
    assert read_table(path) == [TimedRow(None, 0), TimedRow(None, 500_000_000)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "an empty file"),
        ("a,b\n1,2\n", "expected a column timestamp or"),
        ("time\nx\n", "line 2: expected a time, found 'x'"),
        ("frame,time\n-1,2\n", "expected a frame number in column frame, found '-1'"),
        ("2\n1\n", "must ascend, row 2 does not"),
        ("frame,time\n", None),
        ("time\n\x00\n", "t.csv"),
    ],
)
def test_a_wrong_table_is_said(tmp_path: Path, text: str, sentence: str | None) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    if sentence is None:
        assert read_table(path) == []
        return
    with pytest.raises(SourceError, match=sentence):
        read_table(path)


def test_a_missing_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        read_table(tmp_path / "gone.csv")
