"""Fit the integer context model of the default codec to its frozen transforms: a few minutes on one core.

    latents of training pictures ─► float network ─► integer network and coding tables (`tools.training.context_export`)

The float network takes the very inputs of the integer one (`stages.codec.disparity.context`), so that only weights and
activations are rounded afterwards, to ten bits and more, which costs less than a thousandth of the bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.codec.disparity import context as integer
from stages.codec.disparity.context import Context, Known, Layers
from stages.codec.disparity.model import STRIDE, Disparity
from tools.training.pictures import Library
from tools.training.samples import Sampler, paper_crop, tensor

__all__ = ["FloatContext", "FloatLayers", "Latents", "Say", "collect", "fit"]

Say = Callable[[str], None]
SMALL_CROPS = 700
STEPS = 1500
BATCH = 8
RATE = 4e-3
ANCHORS = 8


@dataclass(frozen=True, slots=True)
class Latents:
    """Unscaled latents (C, h, w) of training pictures: whole pictures, and crops at the papers' scale and others."""

    native: list[Tensor]
    crops: list[Tensor]

    def draw(self) -> list[Tensor]:
        """One whole picture or a few crops."""
        if torch.rand(()) < 0.4:
            return [self.native[int(torch.randint(len(self.native), ()))]]
        return [self.crops[int(i)] for i in torch.randint(len(self.crops), (BATCH,))]


@torch.no_grad()
def collect(model: Disparity, library: Library, sampler: Sampler) -> Latents:
    """Latents of the training pictures, never of scenes held out. Right views are mirrored, as in training."""

    def latent(picture: NDArray[np.uint8]) -> Tensor:
        x = tensor(picture.astype(np.float32) / 255)[None]
        return model.g_a(F.pad(x, (0, -x.shape[3] % STRIDE, 0, -x.shape[2] % STRIDE), mode="replicate"))[0].clone()

    views = [v for pair in library.pairs for v in (pair.left, np.ascontiguousarray(pair.right[:, ::-1]))]
    crops = [latent(paper_crop(view)) for view in views]
    crops += [model.g_a(sampler.batch(1).x)[0].clone() for _ in range(SMALL_CROPS)]
    return Latents([latent(view) for view in views], crops)


class FloatLayers(nn.Module):
    """`Layers` in float."""

    def __init__(self, like: Layers, hidden: int) -> None:
        super().__init__()
        self.like = [like]  # not a submodule
        fan_in = 9 * max(1, like.inputs)
        self.enter = nn.Parameter(torch.randn(9 * (like.inputs + 1), hidden) / math.sqrt(fan_in))
        self.enter_quality = nn.Parameter(torch.randn(hidden) * 0.3)
        self.enter_bias = nn.Parameter(torch.rand(hidden) * 0.5)
        self.inner = nn.Parameter(torch.randn(hidden, hidden) / math.sqrt(hidden))
        self.inner_bias = nn.Parameter(torch.rand(hidden) * 0.5)
        self.leave = nn.Parameter(torch.zeros(hidden, like.outputs + like.means))
        self.leave_bias = nn.Parameter(torch.zeros(like.outputs + like.means))
        self.around = nn.Parameter(torch.zeros(9, like.own))
        self.value = nn.Parameter(torch.zeros(25 * like.signed, like.means))

    def forward(self, features: Tensor, values: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """As the integer one, in levels and symbols; `quality` (P, 1) in [-1, 1]."""
        like, most = self.like[0], integer.ACTIVATION_LIMIT / integer.ACTIVATION_SCALE
        features = features / integer.FEATURE_SCALE
        x = features.flatten(1) @ self.enter + self.enter_bias + quality * self.enter_quality
        x = (x.clamp(0, most) @ self.inner + self.inner_bias).clamp(0, most)
        x = x @ self.leave + self.leave_bias
        level, mean = x[:, : like.outputs], x[:, like.outputs :]
        if like.own:
            own = (features[:, :, like.one.first + 1 :] * self.around).sum(1)
            level = torch.cat([level[:, : like.own] + own, level[:, like.own :]], 1)
        if like.means:
            mean = mean + values.flatten(1) @ self.value
        return level, mean


class FloatContext(nn.Module):
    """All passes in float, and a density for every level: a mixture of three logistics around the mean."""

    def __init__(self, model: Disparity, latents: Latents, hidden: int = integer.HIDDEN) -> None:
        super().__init__()
        self.like = [Context(model.latent_channels, hidden)]
        self.layers = nn.ModuleList(FloatLayers(like, hidden) for like in self.like[0].layers)  # type: ignore[arg-type]
        with torch.no_grad():
            self.steps = model.step(torch.arange(float(integer.QUALITIES)))[:, :, 0, 0].float()
        self.usual = _usual_levels(latents, self.steps)
        self.like[0].get_buffer("feature").copy_(_features())
        self.like[0].get_buffer("level").copy_(self.usual.round())
        self.change = nn.Parameter(torch.zeros(ANCHORS, model.latent_channels))
        self.log_scale = nn.Parameter(_laplace_scales().log())
        self.weight = nn.Parameter(torch.tensor([0.0, 0.0, -1.0]))
        self.ratio = nn.Parameter(torch.tensor([-0.7, 0.0, 0.8]))

    def _all(self) -> list[FloatLayers]:
        return [layers for layers in self.layers if isinstance(layers, FloatLayers)]

    def base(self) -> Tensor:
        """(QUALITIES, C) in levels."""
        place = torch.linspace(0, ANCHORS - 1, integer.QUALITIES)
        index = place.floor().long().clamp(0, ANCHORS - 2)
        return self.usual + torch.lerp(self.change[index], self.change[index + 1], (place - index)[:, None])

    def mass(self, distance: Tensor, level: Tensor) -> Tensor:
        """P(distance - 1/2 < value < distance + 1/2) at (fractional) levels."""
        level = level.clamp(0, integer.LEVELS - 1.001)
        index = level.detach().floor().long()
        log_scale = torch.lerp(self.log_scale[index], self.log_scale[index + 1], level - index)
        distance, shares = distance.abs(), self.weight.softmax(0)
        total = torch.zeros_like(distance)
        for share, ratio in zip(shares, self.ratio, strict=True):
            inverse = torch.exp(-(log_scale + ratio))
            upper, lower = (0.5 - distance) * inverse, (-0.5 - distance) * inverse
            total = total + share * (torch.sigmoid(upper) - torch.sigmoid(lower))
        return total

    def bits(self, latents: list[Tensor], quality: list[int]) -> Tensor:
        """Bits (pictures,) of rounded latents at whole qualities."""
        like, base = self.like[0], self.base()
        symbols = [(x.float() / self.steps[q][:, None, None]).round() for x, q in zip(latents, quality, strict=True)]
        flat = [s.flatten(1).T.contiguous() for s in symbols]
        numbers = [f.numpy().astype(np.int32) for f in flat]
        level, feature = like.get_buffer("level"), like.get_buffer("feature")
        known = [Known(level[q], feature, *s.shape[1:]) for s, q in zip(symbols, quality, strict=True)]
        total = torch.zeros(len(latents))
        for layers in self._all():
            own = layers.like[0]
            channels = slice(own.one.first, own.one.last)
            places = [k.places.positions(own.one.where) for k in known]
            inputs = [k.around(own) for k in known]
            counts = torch.tensor([len(p) for p in places])
            owner = torch.arange(len(latents)).repeat_interleave(counts)
            q = torch.tensor(quality)[owner]
            features, values = (torch.cat(t).float() for t in zip(*inputs, strict=True))
            change, mean = layers(features, values, _centred(q)[:, None])
            target = torch.cat([f[torch.from_numpy(p), channels] for f, p in zip(flat, places, strict=True)])
            distance = torch.cat([target[:, : own.means] - mean, target[:, own.means :]], 1)
            mass = self.mass(distance, change + base[q, channels])
            total = total.index_add(0, owner, -mass.clamp_min(1e-7).log2().sum(1))
            for k, n, p in zip(known, numbers, places, strict=True):
                k.add(n[p, channels], own.one.where, channels)
        return total


def fit(model: Disparity, latents: Latents, say: Say, steps: int = STEPS, hidden: int = integer.HIDDEN) -> FloatContext:
    """A float context model, fitted to all qualities."""
    network = FloatContext(model, latents, hidden)
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    began, mean = time.monotonic(), 0.0
    for step in range(steps):
        rate = RATE * min(1.0, (step + 1) / 50) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
        optimiser.param_groups[0]["lr"] = rate
        drawn = latents.draw()
        quality = [int(q) for q in torch.randint(integer.QUALITIES, (len(drawn),))]
        bpp = network.bits(drawn, quality) / torch.tensor([x[0].numel() * STRIDE * STRIDE for x in drawn])
        loss = (bpp / (0.05 * torch.exp(torch.tensor(quality) * (2.4 / 63)))).mean()  # all qualities pull alike
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        mean += loss.item()
        if (step + 1) % 250 == 0:
            say(f"context step {step + 1}  loss {mean / 250:.4f}  {time.monotonic() - began:.0f} s")
            mean = 0.0
    return network


def _usual_levels(latents: Latents, steps: Tensor) -> Tensor:
    """(QUALITIES, C): the level of each channel's mean magnitude, from pictures of both kinds alike."""
    kinds = [torch.cat([x.flatten(1).float() for x in part[::5]], 1) for part in (latents.native, latents.crops)]
    found = []
    for step in steps:
        mean = sum((x / step[:, None]).round().abs().mean(1) for x in kinds) / len(kinds)
        octave = torch.log2(torch.as_tensor(mean).clamp_min(2.0**integer.LOWEST_OCTAVE))
        found.append((octave - integer.LOWEST_OCTAVE) * integer.LEVELS_PER_OCTAVE)
    return torch.stack(found).clamp(0, integer.LEVELS - 1)


def _features() -> Tensor:
    """(LEVELS, MAGNITUDES): log2 of a magnitude in units of the usual one, less what it is on average."""
    usual = 2.0 ** (integer.LOWEST_OCTAVE + torch.arange(integer.LEVELS) / integer.LEVELS_PER_OCTAVE)[:, None]
    magnitude = torch.arange(4096.0)
    value = torch.log2(1 + magnitude / (usual + 0.1))
    ratio = usual / (1 + usual)  # of a geometric distribution with that mean
    share = (1 - ratio) * ratio**magnitude
    mean = (share * value).sum(1, keepdim=True) / share.sum(1, keepdim=True)
    scaled = ((value - mean) * integer.FEATURE_SCALE).round()
    return scaled[:, : integer.MAGNITUDES].clamp(-integer.FEATURE_LIMIT, integer.FEATURE_LIMIT)


def _laplace_scales() -> Tensor:
    """(LEVELS,): scales whose rounded Laplace variables have the levels' mean magnitudes."""
    usual = 2.0 ** (integer.LOWEST_OCTAVE + torch.arange(integer.LEVELS) / integer.LEVELS_PER_OCTAVE)
    low, high = torch.full_like(usual, 1e-2), torch.full_like(usual, 1e4)
    for _ in range(60):
        middle = (low * high).sqrt()
        mean = torch.exp(-0.5 / middle) / (-torch.expm1(-1 / middle))
        low, high = torch.where(mean < usual, middle, low), torch.where(mean < usual, high, middle)
    return middle


def _centred(quality: Tensor) -> Tensor:
    """Whole qualities -> [-1, 1]."""
    return (2 * quality.float() - (integer.QUALITIES - 1)) / integer.QUALITIES
