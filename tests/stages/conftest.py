"""Fixtures for the tests of the stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from specimens import TinyCodec

from pipeline.stage import Context


@pytest.fixture
def context(tmp_path: Path):
    """A node with an output folder of its own; the threads of torch are put back."""
    threads = torch.get_num_threads()
    yield Context(node="test", out=tmp_path / "out", threads=1)
    torch.set_num_threads(threads)


@pytest.fixture
def tiny_codec(monkeypatch: pytest.MonkeyPatch) -> TinyCodec:
    """`load_codec` gives this one, whatever it is asked for."""
    codec = TinyCodec()
    monkeypatch.setattr("stages.codec.load_codec", lambda *_args, **_options: codec)
    return codec
