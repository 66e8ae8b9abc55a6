"""cross_attention: *Neural Distributed Image Compression with Cross-Attention Feature Alignment*, arXiv:2207.08489.

x ────► g_a ─► round ─► symbols ─► concat ─► IGDN ─► concat ─► IGDN ─► ... ─► x_hat       transmitted: the symbols
                                      ▲        │       ▲
side ─► common ─────────────────► w ──┤        └► attend (three times)
                                      ▼                ▲
side ─► side_g_a ───────────────► concat ─► IGDN ──────┴────► IGDN ─► ... ─► y_hat     last layer: in training only

What is attended to are quarters of a picture's height and width, so that attention, and with it the network, has one
size. Other pictures are cut into tiles of that size, or resized to it (`fit`). The side view's tile is the one at the
same place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.codec.attention import GRID, HEADS, INNER, PatchAttention
from stages.codec.density import FactorizedDensity
from stages.codec.errors import CodecError
from stages.codec.factorized import FactorizedModel
from stages.codec.fit import Fit, fixed_fit
from stages.codec.training import FactorizedTraining, TrainingOutput, with_common_noise, with_uniform_noise
from stages.codec.transforms import FIVE_FIVE, Analysis, Synthesis, float32_convolutions

__all__ = ["CrossAttention", "CrossAttentionTraining"]

STRIDES = (8, 4, 2)
"""Of the features that are aligned."""
MULTIPLE = STRIDES[0] * GRID
MOST_PIXELS = 1024


@dataclass(frozen=True, slots=True)
class SideTile:
    """What a tile of the side view gives to the decoder."""

    w: Tensor
    features: list[Tensor]


class CrossAttention(FactorizedModel):
    """What encoding and decoding need."""

    name = "cross_attention"
    needs_side = True
    training_only = ("side_g_s.deconv.3.",)

    def __init__(
        self,
        channels: int = 192,
        height: int = 128,
        width: int = 256,
        fit: str = "tiles",
        anchors: int = 0,
        inner: int = INNER,
    ) -> None:
        more = {"inner": inner} if inner != INNER else {}
        super().__init__(
            Analysis(3, channels, FIVE_FIVE), channels, anchors, height=height, width=width, fit=fit, **more
        )
        if not (HEADS <= inner <= INNER and inner % HEADS == 0):
            raise ValueError(f"inner {inner}, expected a multiple of {HEADS} up to {INNER}")
        for name, pixels in (("height", height), ("width", width)):
            if not (MULTIPLE <= pixels <= MOST_PIXELS and pixels % MULTIPLE == 0):
                raise ValueError(f"{name} {pixels}, expected a multiple of {MULTIPLE} up to {MOST_PIXELS}")
        self.fit: Fit = fixed_fit(fit, height, width)
        self.size = (height, width)
        how = "tiles of" if fit == "tiles" else "the picture resized to"
        self.works_on = f"{how} {width} x {height} pixels"
        self.common = Analysis(3, channels, FIVE_FIVE)
        self.side_g_a = Analysis(3, channels, FIVE_FIVE)
        self.side_g_s = Synthesis(2 * channels, channels, FIVE_FIVE)
        self.g_s = Synthesis(2 * channels, channels, FIVE_FIVE, joined=channels)
        self.attend = torch.nn.ModuleList(PatchAttention((height // s, width // s), inner) for s in STRIDES)

    def analyse(self, x: Tensor, quality: float) -> Tensor:
        """Symbols (C, h, w) int32 of x (1, 3, H, W), tile by tile."""
        symbols = [super(CrossAttention, self).analyse(tile, quality) for tile in self._tiles(x, self.size)]
        return self._mosaic(symbols, x.shape[3] // self.size[1])

    def prepare(self, side: Tensor) -> list[SideTile]:
        """The side view's branch, tile by tile."""
        with float32_convolutions():
            return [self.side_tile(tile) for tile in self._tiles(side, self.size)]

    def synthesise(self, symbols: Tensor, quality: float, prepared: list[SideTile] | None) -> Tensor:
        """x_hat (1, 3, H, W) of symbols (C, h, w) and the side view's tiles."""
        if prepared is None:
            raise CodecError(f"{self.name} can't decode without a side view")
        size = (self.size[0] // self.latent_stride, self.size[1] // self.latent_stride)
        latents = self._tiles(self.dequantised(symbols, quality), size)
        with float32_convolutions():
            pictures = [self.picture(*pair) for pair in zip(latents, prepared, strict=True)]
        return self._mosaic(pictures, symbols.shape[2] // size[1])

    def side_tile(self, side: Tensor) -> SideTile:
        """Of side views (B, 3, H, W) of the network's size."""
        w = self.common(side)
        return SideTile(w, self.side_g_s.features(torch.cat([self.side_g_a(side), w], 1)))

    def picture(self, latent: Tensor, side: SideTile) -> Tensor:
        """x_hat (B, 3, H, W) of latents (B, C, h, w)."""
        x_hat: Tensor = self.g_s(
            torch.cat([latent, side.w], 1), lambda i, features: self.attend[i](features, side.features[i])
        )
        return x_hat

    @staticmethod
    def _tiles(x: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """(1, C, H, W) -> row by row (1, C, *size) each."""
        return [tile for row in torch.split(x, size[0], 2) for tile in torch.split(row, size[1], 3)]

    @staticmethod
    def _mosaic(tiles: list[Tensor], columns: int) -> Tensor:
        """The inverse of `_tiles`."""
        rows = [torch.cat(tiles[i : i + columns], -1) for i in range(0, len(tiles), columns)]
        return torch.cat(rows, -2)


class CrossAttentionTraining(FactorizedTraining):
    """The codec with the densities that the training loss needs."""

    def __init__(
        self,
        channels: int = 192,
        height: int = 128,
        width: int = 256,
        fit: str = "tiles",
        anchors: int = 0,
        inner: int = INNER,
    ) -> None:
        super().__init__()
        self.codec: CrossAttention = CrossAttention(channels, height, width, fit, anchors, inner)
        self.density = FactorizedDensity(channels)
        self.side_density = FactorizedDensity(channels)
        self.common_density = FactorizedDensity(channels)

    def forward(self, x: Tensor, side: Tensor, quality: Tensor | None = None) -> TrainingOutput:
        """x and side (B, 3, H, W) of the network's size."""
        codec = self.codec
        latent, likelihoods = self.noisy(codec.g_a(x), quality)
        side_latent, w = codec.side_g_a(side), with_common_noise(codec.common(side))
        features = codec.side_g_s.features(torch.cat([side_latent, w], 1))
        return TrainingOutput(
            codec.picture(latent, SideTile(w, features)),
            codec.side_g_s.last(features[-1]),
            {
                "x": likelihoods,
                "y": self.side_density(with_uniform_noise(side_latent)),
                "w": self.common_density(with_uniform_noise(w)),
            },
        )
