"""Checkpoints in the format of the reference code, and what the reference computed with them."""

import functools
import runpy
import sys

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def checkpoint(reference, tmp_path_factory):
    """checkpoint(model) -> path of the file that the reference folder's script makes for it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    script = reference / "make_checkpoint.py"

    @functools.cache
    def make(model):
        path, before = folder / f"{model}.pt", sys.argv
        sys.argv = [str(script), model, str(path)]
        try:
            runpy.run_path(str(script), run_name="__main__")
        finally:
            sys.argv = before
        return path

    return make


@pytest.fixture(scope="session")
def expected(reference):
    """expected(model) -> what the reference computed, arrays by name; x and y are pictures (1, 3, 64, 128)."""

    @functools.cache
    def read(model):
        with np.load(reference / f"{model}.npz") as arrays:
            return {name: arrays[name] for name in arrays.files}

    return read


@pytest.fixture(scope="session")
def views(expected):
    """x and side, float32 (1, 3, 64, 128)."""
    return tuple(torch.from_numpy(expected("ndic_bls17")[name]) for name in "xy")
