"""`write_atomically`: whole files or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import StageError
from stages.sinks.atomic import write_atomically


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path):
    file = tmp_path / "deep" / "a.png"
    for data in (b"one", b"two"):
        write_atomically(file, data, "write_images")
        assert file.read_bytes() == data
    assert list(file.parent.iterdir()) == [file]


def test_a_failure_is_one_sentence_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(StageError, match=r"write_images at frame 3: .*a.png cannot be written: .+"):
        write_atomically(tmp_path / "a.png", b"data", "write_images", 3)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
