"""Muon's update is orthogonal, and it trains."""

from __future__ import annotations

import pytest
import torch

from tools.training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_a_linear_map_is_learned() -> None:
    torch.manual_seed(0)
    layer, target = torch.nn.Conv2d(8, 8, 1), torch.nn.Conv2d(8, 8, 1)
    optimiser = Muon([layer.weight], lr=0.02)
    x = torch.randn(16, 8, 4, 4)
    losses = []
    for _ in range(60):
        loss = (layer(x) - target(x)).square().mean()
        layer.weight.grad = None
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
