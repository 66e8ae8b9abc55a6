"""From a fitted context model to what a weights file holds: its integers, and coding tables counted behind them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import ConfigError
from stages.codec import weights_file
from stages.codec.disparity import context as integer
from stages.codec.disparity.context import Context, Layers
from stages.codec.disparity.model import Disparity
from stages.codec.entropy import CodingTables
from tools.training.context import STEPS, FloatContext, FloatLayers, Latents, Say, collect, fit
from tools.training.pictures import Library
from tools.training.samples import Sampler

__all__ = ["complete", "count", "quantise"]

COUNTED = 400
"""Pictures that the coding tables are counted on."""
PRIOR_WEIGHT = 300.0
"""Symbols that the smooth pmf counts as beside those counted."""
REACH = 1200
MOST_FRACTION_BITS = 20
MOST_LEVEL_BITS = 15
"""Of sums of levels, to which a base of up to 2^6 is added."""


def complete(weights: Path, library: Library, sampler: Sampler, say: Say, steps: int = STEPS) -> bytes:
    """Give the codec in a weights file a context model fitted to its transforms, in place; returns the new model id."""
    found = weights_file.load(weights)
    if not isinstance(found.model, Disparity):
        raise ConfigError(f"{weights}: expected weights of disparity, found {found.model.name}")
    latents = collect(found.model, library, sampler)
    network = fit(found.model, latents, say, steps)
    made = quantise(network)
    model = Disparity(**{**found.model.config, "context": made.hidden})  # type: ignore[arg-type]
    model.load_state_dict({**found.model.state_dict(), **{f"context.{k}": v for k, v in made.state_dict().items()}})
    description = found.description | {"context": {"steps": steps, "hidden": made.hidden}}
    return weights_file.save(weights, model, count(network, made, latents), description, float16=True)


@torch.no_grad()
def quantise(network: FloatContext) -> Context:
    """The integer context model nearest to a float one; ValueError where its weights are too large."""
    made = Context(network.like[0].channels, network.like[0].hidden)
    for name in ("level", "feature"):
        made.get_buffer(name).copy_(network.like[0].get_buffer(name))
    limit = integer.FINE * integer.LEVELS
    made.get_buffer("base").copy_((network.base() * integer.FINE).round().clamp(-limit, 2 * limit))
    for source, target in zip(network.layers, made.layers, strict=True):
        _quantise_layers(source, target)  # type: ignore[arg-type]
    made.check()
    return made


def _quantise_layers(source: FloatLayers, target: Layers) -> None:
    outputs = target.outputs
    feature = (_log2(integer.FEATURE_SCALE), integer.FEATURE_LIMIT)
    activation = (_log2(integer.ACTIVATION_SCALE), integer.ACTIVATION_LIMIT)
    enter = [_Part(source.enter, *feature), _Part(source.enter_quality[None], 6, integer.QUALITIES)]
    enter_sum, entered = _integers(enter, source.enter_bias)
    inner_sum, inner = _integers([_Part(source.inner, *activation)], source.inner_bias)
    around = F.pad(source.around, (0, outputs - target.own))
    level = [_Part(source.leave[:, :outputs], *activation), _Part(around, *feature)]
    level_sum, levels = _integers(level, source.leave_bias[:outputs], MOST_LEVEL_BITS)
    mean = [_Part(source.leave[:, outputs:], *activation), _Part(source.value, 0, integer.VALUE_LIMIT)]
    mean_sum, means = _integers(mean, source.leave_bias[outputs:])
    kept = (_log2(integer.ACTIVATION_SCALE), _log2(integer.ACTIVATION_SCALE), _log2(integer.FINE), 2)
    sums = (enter_sum, inner_sum, level_sum, mean_sum)
    found = {
        "enter": torch.cat(entered[:2]),
        "inner": inner[0],
        "leave": torch.cat([levels[0], means[0]], 1),
        "around": levels[1][:, : target.own],
        "value": means[1],
    }
    for name, weight in target.weights().items():
        weight.copy_(found[name])
    target.get_buffer("bias").copy_(torch.cat([entered[2], inner[1], levels[2], means[2]]))
    target.get_buffer("shift").copy_(torch.tensor([s - k for s, k in zip(sums, kept, strict=True)]))


@dataclass(frozen=True, slots=True)
class _Part:
    """A matrix (inputs, outputs); of its inputs, the bits behind the point and the greatest magnitude as integers."""

    weight: Tensor
    fraction: int
    limit: int


def _integers(parts: list[_Part], bias: Tensor, most_bits: int = MOST_FRACTION_BITS) -> tuple[int, list[Tensor]]:
    """The most fraction bits that the sum of the products may have; the matrices and the bias as integers."""
    for bits in range(most_bits, 4, -1):
        weights = [(part.weight * 2.0 ** (bits - part.fraction)).round() for part in parts]
        whole = (bias * 2.0**bits).round()
        most = whole.abs()
        for part, weight in zip(parts, weights, strict=True):
            most = most + part.limit * weight.abs().sum(0)
        greatest = max((float(w.abs().max()) for w in weights if w.numel()), default=0.0)
        if greatest < 1 << 15 and (not most.numel() or float(most.max()) < integer.MOST_SUM - (1 << 22)):
            return bits, [*weights, whole]
    raise ValueError("the weights of the context model are too large for sums below 2^24")


@torch.no_grad()
def count(network: FloatContext, made: Context, latents: Latents) -> CodingTables:
    """The coding tables: what the integer model's choices were followed by, beside the float network's densities."""
    reach = np.arange(-REACH, REACH + 1)
    counts = np.zeros((integer.TABLES, reach.size))
    for _ in range(COUNTED):
        for x in latents.draw()[:2]:
            quality = int(torch.randint(integer.QUALITIES, ()))
            symbols = (x.float() / network.steps[quality][:, None, None]).round().numpy().astype(np.int32)
            for values, index in integer.residuals(made, symbols, quality)[1:]:
                np.add.at(counts, (index, values.clip(-REACH, REACH) + REACH), 1)
    pmfs = []
    for table in range(integer.TABLES):
        level, fraction = divmod(table, integer.FRACTIONS)
        mean = (fraction - 1) / integer.FRACTIONS
        distance = torch.from_numpy(reach - mean)
        smooth = network.mass(distance.float(), torch.full(distance.shape, float(level) + 0.5)).double().numpy()
        pmfs.append(_symmetric(counts, level, fraction) + PRIOR_WEIGHT * smooth)
        pmfs[-1] = pmfs[-1] / (pmfs[-1].sum() + PRIOR_WEIGHT * max(0.0, 1 - smooth.sum()))
    pmfs.append(np.full(made.channels + 1, 1 / (made.channels + 1)))
    return CodingTables.build(pmfs, [-REACH] * integer.TABLES + [0])


def _symmetric(counts: NDArray[np.float64], level: int, fraction: int) -> NDArray[np.float64]:
    """Counts of a table and of its mirror image: -1/4 and 1/4 are each other's, 0 is its own, 1/2 too (r and 1 - r)."""
    mirror = {0: 2, 1: 1, 2: 0, 3: 3}[fraction]
    other = counts[level * integer.FRACTIONS + mirror][::-1]
    if fraction == 3:
        other = np.append(0.0, other[:-1])
    total: NDArray[np.float64] = counts[level * integer.FRACTIONS + fraction] + other
    return total


def _log2(value: int) -> int:
    return value.bit_length() - 1
