"""Batches for the training loop: drawn as they are asked for, or ahead of time by worker processes.

A CPU trains no faster than one core draws. A GPU takes a batch in a few milliseconds, which ten cores can just draw.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from pipeline.launcher import usable_cores
from tools.training.samples import Batch, Sampler

__all__ = ["batches"]

AHEAD = 4
"""Batches that each worker keeps ready."""


def batches(sampler: Sampler, count: int, device: torch.device) -> Iterator[Batch]:
    """Batches of `count` samples on `device`, without end."""
    if device.type == "cpu":
        while True:
            yield sampler.batch(count)
    workers = max(1, usable_cores() - 1)
    # Forked, the workers share the pictures; they don't touch the GPU.
    loader = DataLoader(
        _Drawn(sampler, count),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD,
        multiprocessing_context="fork",
    )
    for batch in loader:
        yield batch.to(device)


class _Drawn(IterableDataset[Batch]):
    """What a sampler draws; in a worker process, with that worker's own random numbers."""

    def __init__(self, sampler: Sampler, count: int) -> None:
        self.sampler, self.count = sampler, count

    def __iter__(self) -> Iterator[Batch]:
        sampler, worker = copy.copy(self.sampler), get_worker_info()
        if worker is not None:
            sampler.rng = sampler.rng.spawn(worker.num_workers)[worker.id]
        while True:
            yield sampler.batch(self.count)
