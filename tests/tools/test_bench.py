"""`sidecast bench`: one line per codec and size."""

from __future__ import annotations

import pytest

from tools import cli


def test_a_size_is_timed_part_by_part(capsys):
    assert cli.main(["bench", "--sizes", "64x32", "--runs", "1", "--device", "cpu"]) == 0
    first, header, line = capsys.readouterr().out.splitlines()
    assert "medians of 1 runs" in first
    assert header.split()[:3] == ["codec", "size", "device"]
    assert line.split()[1:3] == ["64x32", "cpu"]
    assert line.count(" ms") == 3


@pytest.mark.parametrize("size", ["0x0", "15x64", "64", "axb", "-16x32"])
def test_a_size_that_is_none_is_refused(capsys, size):
    assert cli.main(["bench", f"--sizes={size}"]) == 2
    assert f"found '{size}'" in capsys.readouterr().err
