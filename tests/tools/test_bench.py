"""`sidecast bench`: one line per codec and size."""

from __future__ import annotations

import threading

import pytest

from tools import cli


def test_a_size_is_timed_part_by_part(capsys):
    assert cli.main(["bench", "--sizes", "64x32", "--runs", "1", "--device", "cpu"]) == 0
    first, header, line = capsys.readouterr().out.splitlines()
    assert "medians of 1 runs" in first
    assert header.split()[:3] == ["codec", "size", "device"]
    assert line.split()[1:3] == ["64x32", "cpu"]
    assert line.count(" ms") == 3
    assert min(float(fps) for fps in line.split()[-2:]) > 1


def test_pictures_are_coded_side_by_side_as_in_a_stage(capsys, monkeypatch):
    threads: set[int] = set()
    monkeypatch.setattr("stages.cores.Cores.claim", lambda self: threads.add(threading.get_ident()))
    assert cli.main(["bench", "--sizes", "64x32", "--runs", "4", "--threads", "2", "--device", "cpu"]) == 0
    assert "fps with 2 at once" in capsys.readouterr().out
    assert len(threads) > 1


def test_the_papers_best_model_is_timed_in_the_same_run(capsys):
    assert cli.main(["bench", "--sizes", "256x128", "--runs", "1", "--device", "cpu"]) == 0
    *_, published, ratio = capsys.readouterr().out.splitlines()
    assert published.startswith("cross_attention*")
    times = int(ratio.removeprefix("default decodes ").split(" times")[0])
    assert times > 5  # over 100 on a quiet machine


@pytest.mark.parametrize("size", ["0x0", "15x64", "64", "axb", "-16x32"])
def test_a_size_that_is_none_is_refused(capsys, size):
    assert cli.main(["bench", f"--sizes={size}"]) == 2
    assert f"found '{size}'" in capsys.readouterr().err
