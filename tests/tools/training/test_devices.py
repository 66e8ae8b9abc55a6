"""Training on a GPU, as far as a machine without one can tell: on the device "meta", which computes shapes only, but
takes no tensor of another device."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.codec.disparity import model as disparity_model
from stages.codec.errors import CodecError
from tools.training import disparity, session
from tools.training.config import Mixture, load_training_config
from tools.training.feed import batches
from tools.training.pictures import Library, Pair
from tools.training.samples import Batch, Sampler

META = torch.device("meta")
CONFIGS = Path(__file__).parents[3] / "configs"
RUNS = [path.stem.removeprefix("train-") for path in sorted(CONFIGS.glob("train-*.yaml"))]
SEARCHING = "dsin"
"""Its patch search looks at values, of which that device has none."""


@pytest.fixture
def sampler() -> Sampler:
    rng = np.random.default_rng(0)
    pairs = [Pair(*rng.integers(0, 256, (2, 140, 280, 3), np.uint8), "drive", i) for i in range(3)]
    return Sampler(Library(pairs=pairs), Mixture(small=0.5, native=0.5, layered=0.0), (64, 32), seed=1)


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch):
    for module in (disparity, disparity_model):  # that device has no autocast
        monkeypatch.setattr(module, "autocast", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch, "autocast", lambda *args, **keywords: contextlib.nullcontext())

    def made(name: str):
        config = CONFIGS / f"train-{name}.yaml"
        return session._recipe(session.Places(config, Path(), Path(), Path()), load_training_config(config))

    return made


@pytest.mark.parametrize("name", [name for name in RUNS if name != SEARCHING])
def test_a_step_and_a_validation_stay_on_their_device(recipes, name: str) -> None:
    recipe = recipes(name)
    recipe.model.to(META)
    x = torch.rand(2, 3, 128, 256, device=META)
    recipe.loss(Batch(x, x, torch.ones(2, dtype=torch.bool, device=META)), 5).backward()
    assert all(p.grad is None or p.grad.device == META for p in recipe.model.parameters())
    with torch.no_grad():
        # Without a side view, for whether that is of another scene is told by values.
        x_hat, bits = recipe.estimate(recipe.model)(x[:1], None, recipe.qualities[-1])
    assert (x_hat.device, bits.device) == (META, META)


def test_a_batch_of_another_device_is_noticed(recipes) -> None:
    recipe = recipes("bls17")
    recipe.model.to(META)
    x = torch.rand(1, 3, 128, 256)
    with pytest.raises((RuntimeError, NotImplementedError)):
        recipe.loss(Batch(x, x, torch.ones(1, dtype=torch.bool)), 5).backward()


def test_batches_for_a_gpu_are_drawn_by_worker_processes(sampler: Sampler) -> None:
    stream = batches(sampler, 2, META)
    batch = next(stream)
    assert (batch.x.shape, batch.x.device, batch.use.device) == ((2, 3, 32, 64), META, META)


def test_workers_draw_different_batches(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.training.feed.usable_cores", lambda: 3)
    monkeypatch.setattr(Batch, "to", lambda batch, device: batch)
    stream = batches(sampler, 1, META)
    drawn = [next(stream).x for _ in range(4)]
    assert not any(torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_a_cpu_draws_as_it_trains(sampler: Sampler) -> None:
    again = Sampler(sampler.library, sampler.mixture, sampler.size, seed=1)
    stream = batches(sampler, 2, torch.device("cpu"))
    assert all(torch.equal(next(stream).x, again.batch(2).x) for _ in range(3))


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    places = session.Places(CONFIGS / "train-bls17.yaml", tmp_path, tmp_path, tmp_path, "cuda:99")
    with pytest.raises(CodecError, match="'cuda:99' was asked for, but torch sees"):
        session.train(places, 0.001)
