"""The context model as it is fitted: its integers choose what the float network would, and it saves real bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.codec.disparity.context import residuals
from stages.codec.disparity.model import Disparity
from tools.training.context import FloatContext, Latents, fit
from tools.training.context_export import count, quantise

CHANNELS = 20


def latents_with_structure(count_: int, seed: int) -> list[torch.Tensor]:
    """(C, 8, 12) each: a smooth first channel, and busy and calm places that all channels share."""
    rng = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count_):
        coarse = torch.randn(2, 1, 3, 4, generator=rng)
        smooth, busy = torch.nn.functional.interpolate(coarse, (8, 12), mode="bicubic")[:, 0]
        latent = torch.randn(CHANNELS, 8, 12, generator=rng) * torch.exp(1.5 * busy) * 0.1
        latent[0] += 4 * smooth
        found.append(latent)
    return found


@pytest.fixture(scope="module")
def fitted() -> tuple[FloatContext, Latents]:
    torch.manual_seed(0)
    model = Disparity(latent=CHANNELS, trunk=8, head=8)
    model.set_steps(0.5, 0.05)
    latents = Latents(latents_with_structure(24, 1), latents_with_structure(24, 2))
    return fit(model, latents, lambda line: None, steps=120, hidden=16), latents


def test_integers_cost_what_the_float_network_says_and_less_than_without_context(
    fitted: tuple[FloatContext, Latents],
) -> None:
    torch.manual_seed(1)
    network, latents = fitted
    made = quantise(network)
    tables = count(network, made, latents)
    real = estimate = usual = 0.0
    for i, latent in enumerate(latents_with_structure(8, 3)):
        quality = 8 * i
        symbols = (latent / network.steps[quality][:, None, None]).round().numpy().astype(np.int32)
        real += sum(tables.bits(numbers, index) for numbers, index in residuals(made, symbols, quality))
        with torch.no_grad():
            estimate += float(network.bits([latent], [quality]))
            distance = torch.from_numpy(symbols.reshape(CHANNELS, -1).T.copy()).float()
            usual += float(-network.mass(distance, network.usual[quality].expand_as(distance)).log2().sum())
    assert real == pytest.approx(estimate, rel=0.05)
    assert real < 0.9 * usual


def test_weights_too_large_for_exact_sums_are_refused(fitted: tuple[FloatContext, Latents]) -> None:
    network, _ = fitted
    kept = network.layers[3].enter.data
    network.layers[3].enter.data = kept * 1e6
    with pytest.raises(ValueError, match="too large for sums below 2\\^24"):
        quantise(network)
    network.layers[3].enter.data = kept


def test_drawn_latents_are_whole_pictures_or_a_few_crops() -> None:
    latents = Latents([torch.zeros(1, 9, 9)], [torch.zeros(1, 2, 2)])
    assert {(len(drawn), drawn[0].shape[1]) for drawn in (latents.draw() for _ in range(40))} == {(1, 9), (8, 2)}
