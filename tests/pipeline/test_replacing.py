from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pipeline.replacing import replacing


def test_what_was_there_stays_until_the_new_file_is_complete(tmp_path: Path):
    file = tmp_path / "a"
    file.write_text("old")
    with replacing(file) as unfinished:
        unfinished.write_text("new")
        assert file.read_text() == "old"
    assert (file.read_text(), list(tmp_path.iterdir())) == ("new", [file])


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path):
    file = tmp_path / "a"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        _interrupted(file)
    assert (file.read_text(), list(tmp_path.iterdir())) == ("old", [file])


def test_a_link_is_followed(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "deep" / "file")
    for text in ("one", "two"):
        with replacing(link) as unfinished:
            unfinished.write_text(text)
        assert link.is_symlink()
        assert (tmp_path / "deep" / "file").read_text() == text


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path):
    pipe, read = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reading = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reading.start()
    with replacing(pipe) as unfinished:
        unfinished.write_text("through")
    reading.join(10)
    assert (read, pipe.is_fifo()) == (["through"], True)


def _interrupted(file: Path) -> None:
    with replacing(file) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
