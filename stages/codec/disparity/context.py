"""The integer context model: which coding table a symbol of the latent uses, from the symbols decoded before it.

The latent is coded in passes, the first channels (which hold most of the bits) alone and from coarse to fine positions:

    channels 0           every fourth position of every fourth row, then four passes that fill in the rest
    ...                  groups of channels, each in two or three passes
    the last channels    in one pass

    magnitudes of decoded symbols around ─► 3x3, clip ─► 1x1, clip ─► 1x1 ─► + base of quality and channel ─► level
                                                                       └───► +
    values of the first channels around ──► 5x5 ───────────────────────────► mean: whole part subtracted, fraction

A table is a level, the spread of the symbol, and a fraction, in quarters, of its mean.

Everything is integers held in floats: inputs and activations of at most ten bits, weights of sixteen, and no sum that
reaches 2^24 (`Context.check`). So float32 and float64 products are exact in any order of summation, and the tables are
the same on every machine, device and number of threads. Convolution libraries, which may compute by other formulas,
aren't asked. Weights come from `tools.training.context`, which fits the same network in float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = [
    "PASSES",
    "TABLES",
    "Context",
    "Known",
    "Layers",
    "Pass",
    "Places",
    "Step",
    "grid",
    "places",
    "plan",
    "residuals",
    "restored",
]

Ints = NDArray[np.int32]

LEVELS = 56
"""Spreads that there are tables for."""
LEVELS_PER_OCTAVE = 3
LOWEST_OCTAVE = -11
"""Level 0 is a mean magnitude of 2^-11, the next one 2^(1/3) times that."""
FRACTIONS = 4
"""Of the mean, in quarters: -1/4, 0, 1/4, 1/2."""
TABLES = LEVELS * FRACTIONS
"""Of symbols; the next table is that of the number of active channels."""
FINE = 16
"""Parts of a level that the network counts in."""
FEATURE_SCALE, FEATURE_LIMIT = 16, 127
MAGNITUDES = 128
"""Magnitudes that are told apart as inputs."""
VALUE_LIMIT = 255
"""Signed inputs are clipped to this."""
ACTIVATION_LIMIT, ACTIVATION_SCALE = 1023, 64
MEAN_LIMIT = 1 << 12
"""Of means, in quarters."""
MOST_SUM = 1 << 24
INPUT_CHANNELS = 64
"""Channels whose magnitudes are inputs."""
SIGNED_CHANNELS = 16
"""Channels whose values are inputs, and that have a mean."""
HIDDEN = 32
QUALITIES = 64
MARGIN = 4
"""Positions around the latent where nothing is; as far as any tap reaches."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Channels first to last (exclusive) at the positions of one grid."""

    first: int
    last: int
    where: str
    spread: int = 1
    """Distance of the taps, in positions."""


PASSES: tuple[Pass, ...] = (
    Pass(0, 1, "quarter", 2),
    Pass(0, 1, "quarter centre", 2),
    Pass(0, 1, "half rest", 2),
    Pass(0, 1, "half centre"),
    Pass(0, 1, "odd"),
    Pass(1, 4, "half"),
    Pass(1, 4, "half centre"),
    Pass(1, 4, "odd"),
    Pass(4, 12, "even"),
    Pass(4, 12, "odd"),
    Pass(12, 40, "even"),
    Pass(12, 40, "odd"),
    Pass(40, 1024, "all"),
)


FIRST = ("quarter", "half", "even", "all")
"""Grids with which a group of channels begins: nothing of these channels is decoded before."""


def plan(channels: int, passes: tuple[Pass, ...] = PASSES) -> tuple[Pass, ...]:
    """The passes of a latent of so many channels."""
    return tuple(Pass(p.first, min(p.last, channels), p.where, p.spread) for p in passes if p.first < channels)


def grid(where: str, h: int, w: int) -> NDArray[np.bool_]:
    """(h, w): the positions of a grid."""
    y, x = np.arange(h)[:, None], np.arange(w)[None]
    half = (y % 2 == 0) & (x % 2 == 0)
    quarter = (y % 4 == 0) & (x % 4 == 0)
    quarter_centre = (y % 4 == 2) & (x % 4 == 2)
    grids: dict[str, NDArray[np.bool_]] = {
        "quarter": quarter,
        "quarter centre": quarter_centre,
        "half rest": half & ~quarter & ~quarter_centre,
        "half": half,
        "half centre": (y % 2 == 1) & (x % 2 == 1),
        "even": (y + x) % 2 == 0,
        "odd": (y + x) % 2 == 1,
        "all": np.ones((h, w), np.bool_),
    }
    return grids[where]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What is coded next: P positions of n channels."""

    positions: NDArray[np.int64]
    """(P,) row * w + column"""
    channels: slice
    index: NDArray[np.uint16]
    """(P, n): each symbol's table"""
    mean: Ints
    """(P, m): what is subtracted from each symbol of the first m channels"""


class Layers(nn.Module):
    """The integer network of one pass."""

    def __init__(self, one: Pass, hidden: int) -> None:
        super().__init__()
        self.one = one
        decoded = one.last if one.where not in FIRST else one.first
        self.inputs, self.outputs = min(decoded, INPUT_CHANNELS), one.last - one.first
        self.signed = min(decoded, SIGNED_CHANNELS)
        self.means = max(0, min(one.last, SIGNED_CHANNELS) - one.first)
        self.own = max(0, self.inputs - one.first)
        self.shapes = {
            "enter": (9 * (self.inputs + 1) + 1, hidden),
            "inner": (hidden, hidden),
            "leave": (hidden, self.outputs + self.means),
            "around": (9, self.own),
            "value": (25 * self.signed, self.means),
        }
        self.biases = {"enter": hidden, "inner": hidden, "leave": self.outputs + self.means}
        self.register_buffer("weight", torch.zeros(sum(a * b for a, b in self.shapes.values()), dtype=torch.int16))
        """All matrices (inputs, outputs), one behind the other."""
        self.register_buffer("bias", torch.zeros(sum(self.biases.values()), dtype=torch.int32))
        self.register_buffer("shift", torch.zeros(4, dtype=torch.int16))
        """Bits behind the point that the sums of enter, inner, the levels and the means have beyond those kept."""

    def weights(self) -> dict[str, Tensor]:
        """Views of the matrices by name."""
        return dict(zip(self.shapes, self._matrices(self.get_buffer("weight")), strict=True))

    def greatest_sum(self, base: int) -> int:
        """The greatest magnitude that a sum can have, what rounding adds included, for bases up to that."""
        weights = {name: weight.long().abs() for name, weight in self.weights().items()}
        enter, inner, leave = (
            b.long().abs() for b in self.get_buffer("bias").split_with_sizes(list(self.biases.values()))
        )
        shift = self.get_buffer("shift").long().clamp(1, 20)
        enter = enter + FEATURE_LIMIT * weights["enter"].sum(0)
        inner = inner + ACTIVATION_LIMIT * weights["inner"].sum(0)
        leave = leave + ACTIVATION_LIMIT * weights["leave"].sum(0)
        leave[: self.own] += FEATURE_LIMIT * weights["around"].sum(0)
        leave[: self.outputs] += base << int(shift[2])
        leave[self.outputs :] += VALUE_LIMIT * weights["value"].sum(0)
        return max(int(sums.max()) for sums in (enter, inner, leave) if sums.numel()) + (1 << int(shift.max() - 1))

    def _matrices(self, weight: Tensor) -> list[Tensor]:
        parts = weight.split_with_sizes([a * b for a, b in self.shapes.values()])
        return [part.view(shape) for part, shape in zip(parts, self.shapes.values(), strict=True)]

    def network(self, kind: torch.dtype) -> Network:
        """The same, ready to be computed with numbers of that type.

        Shifts and roundings are moved into the weights: powers of two, which leave all sums as exact as they are.
        """
        enter, inner, leave, around, value = self._matrices(self.get_buffer("weight").to(kind))
        enter_bias, inner_bias, bias = self.get_buffer("bias").to(kind).split_with_sizes(list(self.biases.values()))
        shifts = self.get_buffer("shift").clamp(1, 20).tolist()
        to_enter, to_inner, to_level, to_mean = (2.0**-shift for shift in shifts)
        level = to_level / FINE
        return Network(
            like=self,
            enter=enter[:-1] * to_enter,
            enter_quality=enter[-1] * to_enter,
            enter_bias=enter_bias * to_enter + 0.5,
            inner=inner * to_inner,
            inner_bias=inner_bias * to_inner + 0.5,
            level=leave[:, : self.outputs] * level,
            level_bias=bias[: self.outputs] * level,
            around=around * level,
            mean=leave[:, self.outputs :] * to_mean,
            mean_bias=bias[self.outputs :] * to_mean + 0.5,
            value=value * to_mean,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """`Layers` with all integers held in floats, and scaled so that what is kept of a sum is its whole part."""

    like: Layers
    enter: Tensor
    enter_quality: Tensor
    enter_bias: Tensor
    inner: Tensor
    inner_bias: Tensor
    level: Tensor
    level_bias: Tensor
    around: Tensor
    mean: Tensor
    mean_bias: Tensor
    value: Tensor

    def __call__(self, features: Tensor, values: Tensor, quality: int, base: Tensor) -> tuple[Tensor, Tensor]:
        """(P, 9, inputs + 1), (P, 25, signed), base (n,) -> levels (P, n) from 0 on, means (P, means) in quarters.

        The n first channels of the pass are wanted. Both are integers in the floating type of the inputs.
        """
        with torch.autocast(features.device.type, enabled=False):
            return self._tables(features, values, quality, base)

    def _tables(self, features: Tensor, values: Tensor, quality: int, base: Tensor) -> tuple[Tensor, Tensor]:
        wanted, start = len(base), self.like.one.first + 1
        first = torch.add(self.enter_bias, self.enter_quality, alpha=2 * quality - (QUALITIES - 1))
        x = torch.addmm(first, features.flatten(1), self.enter).floor_().clamp_(0, ACTIVATION_LIMIT)
        x = torch.addmm(self.inner_bias, x, self.inner).floor_().clamp_(0, ACTIVATION_LIMIT)
        usual = torch.add(self.level_bias[:wanted], base, alpha=1 / FINE)
        level = torch.addmm(usual, x, self.level[:, :wanted])
        if own := min(self.like.own, wanted):
            level[:, :own] += (features[:, :, start : start + own] * self.around[:, :own]).sum(1)
        level.floor_().clamp_(0, LEVELS - 1)
        if not self.like.means:
            return level, level[:, :0]
        mean = torch.addmm(self.mean_bias, x, self.mean).addmm_(values.flatten(1), self.value)
        return level, mean.floor_().clamp_(-MEAN_LIMIT, MEAN_LIMIT)[:, :wanted]


class Context(nn.Module):
    """Integer networks for all passes, and what they know of every quality and channel."""

    def __init__(self, channels: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.channels, self.hidden = channels, hidden
        self._made: tuple[torch.device, torch.dtype, int, list[Network]] | None = None
        self.layers = nn.ModuleList(Layers(one, hidden) for one in plan(channels))
        self.register_buffer("level", torch.zeros(QUALITIES, channels, dtype=torch.int16))
        """The usual level of each channel at each whole quality, which magnitudes are judged by."""
        self.register_buffer("base", torch.zeros(QUALITIES, channels, dtype=torch.int16))
        """What the network's changes of level are added to, in FINE parts."""
        self.register_buffer("feature", torch.zeros(LEVELS, MAGNITUDES, dtype=torch.int16))
        """What a magnitude says where a level is usual: near 0 what is expected."""

    def forward(self, quality: float, h: int, w: int, active: int) -> Generator[Step, Ints, None]:
        """What to code next, step by step; each step's symbols (P, n) are to be sent in before the next.

        All channels from `active` on are zero and not coded.
        """
        whole = min(max(math.floor(quality + 0.5), 0), QUALITIES - 1)
        base = self.get_buffer("base")[whole]
        known = Known(self.get_buffer("level")[whole], self.get_buffer("feature"), h, w)
        networks = [network for network in self._networks() if network.like.one.first < active]
        for network in networks:
            one = network.like.one
            positions, channels = known.places.positions(one.where), slice(one.first, min(one.last, active))
            if positions.size:
                level, mean = network(*known.around(network.like), whole, base[channels])
                subtracted = (mean + 1).mul_(0.25).floor_()
                index = level.mul_(FRACTIONS).add_(1)
                index[:, : mean.shape[1]] += mean - 4 * subtracted
                tables = index.to("cpu", torch.int16).numpy().view(np.uint16)
                symbols = yield Step(positions, channels, tables, _integers(subtracted))
                if network is not networks[-1]:  # else nothing depends on them any more
                    known.add(symbols, one.where, channels)

    def _networks(self) -> list[Network]:
        """Made when first asked for, and again when weights have changed."""
        device = self.get_buffer("base").device
        kind, version = _exact(device), sum(buffer._version for buffer in self.layers.buffers())
        if self._made is None or self._made[:3] != (device, kind, version):
            self._made = device, kind, version, [layers.network(kind) for layers in self._all()]
        return self._made[3]

    def _all(self) -> list[Layers]:
        return [layers for layers in self.layers if isinstance(layers, Layers)]

    def check(self) -> None:
        """ValueError where a sum could reach 2^24, beyond which float32 products aren't exact."""
        base = int(self.get_buffer("base").abs().max())
        for i, layers in enumerate(self._all()):
            if (greatest := layers.greatest_sum(base)) >= MOST_SUM:
                raise ValueError(
                    f"sums in pass {i} of the context model can reach {greatest}, expected below {MOST_SUM}"
                )


class Places:
    """Where the positions of each grid and their neighbours lie in maps with a margin, for pictures of one size."""

    def __init__(self, h: int, w: int, device: torch.device) -> None:
        self._h, self._w, self._device = h, w, device
        self._stride = w + 2 * MARGIN
        self.count = (h + 2 * MARGIN) * self._stride
        self._positions: dict[str, NDArray[np.int64]] = {}
        self._cells: dict[str, Tensor] = {}
        self._near: dict[tuple[str, int, int], Tensor] = {}

    def positions(self, where: str) -> NDArray[np.int64]:
        """(P,) row * w + column"""
        if where not in self._positions:
            self._positions[where] = np.flatnonzero(grid(where, self._h, self._w))
        return self._positions[where]

    def cells(self, where: str) -> Tensor:
        """(P,) in a flattened map"""
        if where not in self._cells:
            rows, columns = np.divmod(self.positions(where), self._w)
            found = torch.from_numpy((rows + MARGIN) * self._stride + columns + MARGIN)
            self._cells[where] = found.to(self._device)
        return self._cells[where]

    def near(self, where: str, reach: int, spread: int) -> Tensor:
        """(P * taps,): cells of (2 * reach + 1)^2 taps around each, `spread` apart"""
        key = where, reach, spread
        if key not in self._near:
            steps = torch.arange(-reach, reach + 1, device=self._device) * spread
            taps = (steps[:, None] * self._stride + steps).reshape(-1)
            self._near[key] = (self.cells(where)[:, None] + taps).reshape(-1).int()
        return self._near[key]


@lru_cache(maxsize=2)
def places(h: int, w: int, device: torch.device) -> Places:
    """Kept for the two last sizes: a stream has one."""
    return Places(h, w, device)


class Known:
    """Maps of what is decoded, zero where nothing is, with a margin."""

    def __init__(self, level: Tensor, feature: Tensor, h: int, w: int) -> None:
        """`level` (C,): the usual ones at the quality; `feature` (LEVELS, MAGNITUDES)."""
        self.places = places(h, w, level.device)
        self._kind = _exact(level.device)
        self._inputs = min(len(level), INPUT_CHANNELS)
        usual = level[: self._inputs].long().clamp(0, LEVELS - 1)
        self._feature = feature[usual].to(self._kind).clamp_(-FEATURE_LIMIT, FEATURE_LIMIT)
        self._features = level.new_zeros(self.places.count, self._inputs + 1, dtype=self._kind)
        self._values = level.new_zeros(self.places.count, min(len(level), SIGNED_CHANNELS), dtype=self._kind)
        self._features[self.places.cells("all"), 0] = FEATURE_SCALE  # marks what lies within the picture

    def around(self, layers: Layers) -> tuple[Tensor, Tensor]:
        """What the network of a pass takes, (P, 9, inputs + 1) and (P, 25, signed)."""
        where, spread = layers.one.where, layers.one.spread
        features = self._features[:, : layers.inputs + 1].index_select(0, self.places.near(where, 1, spread))
        features = torch.unflatten(features, 0, (-1, 9))
        if not layers.means:
            return features, features[:, :0, :0]
        values = self._values[:, : layers.signed].index_select(0, self.places.near(where, 2, spread))
        return features, torch.unflatten(values, 0, (-1, 25))

    def add(self, symbols: Ints, where: str, channels: slice) -> None:
        """Enter decoded symbols (P, n)."""
        cells = self.places.cells(where)
        last = min(channels.stop, self._inputs)
        if channels.start < last:
            kept = torch.from_numpy(symbols[:, : last - channels.start]).to(cells.device, torch.int64).abs()
            found = self._feature[channels.start : last].gather(1, kept.clamp_(0, MAGNITUDES - 1).T).T
            self._features[:, channels.start + 1 : last + 1].index_copy_(0, cells, found)
        last = min(channels.stop, self._values.shape[1])
        if channels.start < last:
            kept = torch.from_numpy(symbols[:, : last - channels.start]).to(cells.device, self._kind)
            self._values[:, channels.start : last].index_copy_(0, cells, kept.clamp_(-VALUE_LIMIT, VALUE_LIMIT))


def residuals(context: Context, symbols: Ints, quality: float) -> list[tuple[Ints, NDArray[Any]]]:
    """What an encoder codes for symbols (C, h, w): groups of numbers, each number with its table.

    The first is the number of active channels, so that neither side spends time on those that are zero.
    """
    _, h, w = symbols.shape
    active = int(np.flatnonzero(symbols.any((1, 2)))[-1]) + 1 if symbols.any() else 0
    groups: list[tuple[Ints, NDArray[Any]]] = [(np.array([active], np.int32), np.array([TABLES]))]
    by_position = np.ascontiguousarray(symbols[:active].reshape(active, h * w).T)

    def take(step: Step) -> Ints:
        chosen = by_position[step.positions, step.channels]
        numbers = chosen.copy()
        numbers[:, : step.mean.shape[1]] -= step.mean
        groups.append((numbers.reshape(-1), step.index.reshape(-1)))
        return chosen

    _walk(context(quality, h, w, active), take)
    return groups


def restored(context: Context, read: Callable[[NDArray[Any]], Ints], quality: float, h: int, w: int) -> Ints:
    """Symbols (C, h, w) from a reader that gives the numbers for table indices, one group after the other."""
    active = min(max(int(read(np.array([TABLES]))[0]), 0), context.channels)  # whatever a forged payload says
    symbols = np.zeros((context.channels, h * w), np.int32)

    def take(step: Step) -> Ints:
        chosen = read(step.index.reshape(-1)).reshape(step.index.shape)
        if step.mean.size:
            chosen = chosen.copy()
            chosen[:, : step.mean.shape[1]] += step.mean
        symbols[step.channels, step.positions] = chosen.T
        return chosen

    _walk(context(quality, h, w, active), take)
    return symbols.reshape(-1, h, w)


def _walk(steps: Generator[Step, Ints, None], take: Callable[[Step], Ints]) -> None:
    step = next(steps, None)
    while step is not None:
        try:
            step = steps.send(take(step))
        except StopIteration:
            step = None


def _integers(t: Tensor) -> Ints:
    return t.to("cpu", torch.int32).numpy()


def _exact(device: torch.device) -> torch.dtype:
    """float32 where its products are sure to be computed in float32, else float64."""
    if device.type != "cpu":
        return torch.float64
    places = (torch.backends, torch.backends.mkldnn, getattr(torch.backends.mkldnn, "matmul", None))
    allowed = {getattr(place, "fp32_precision", "unknown") for place in places}
    return torch.float32 if allowed <= {"none", "ieee"} else torch.float64
