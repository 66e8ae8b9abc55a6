"""The convolutional transforms that the papers' models are composed of.

    Analysis:   conv ─► GDN ─► conv ─► GDN ─► ... ─► conv
    Synthesis:  deconv ─► IGDN ─► deconv ─► IGDN ─► ... ─► deconv

GDN is CompressAI's (Ballé et al., 2016, arXiv:1511.06281); its gamma is indexed [output, input].
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.codec.torchvision_guard import import_compressai

__all__ = ["FIVE_FIVE", "NINE_FIRST", "Analysis", "Step", "Synthesis", "float32_convolutions"]


@dataclass(frozen=True, slots=True)
class Step:
    """One convolution that changes the resolution."""

    kernel: int
    stride: int


FIVE_FIVE = (Step(5, 2), Step(5, 2), Step(5, 2), Step(5, 2))
"""Four layers: the transforms of NDIC."""
NINE_FIRST = (Step(9, 4), Step(5, 2), Step(5, 2))
"""Three layers: those of Ballé et al., 2017 (arXiv:1611.01704)."""

MAX_CHANNELS = 512


class Analysis(nn.Module):
    """(B, in_channels, H, W) -> (B, channels, H / 16, W / 16)."""

    def __init__(self, in_channels: int, channels: int, steps: Sequence[Step]) -> None:
        super().__init__()
        widths = [in_channels] + [_checked(channels)] * len(steps)
        self.conv = nn.ModuleList(
            nn.Conv2d(a, b, s.kernel, s.stride, s.kernel // 2)
            for a, b, s in zip(widths, widths[1:], steps, strict=False)
        )
        self.gdn = nn.ModuleList(_gdn(channels, inverse=False) for _ in steps[1:])

    def forward(self, x: Tensor) -> Tensor:
        """The latent, not rounded."""
        for conv, gdn in zip(self.conv, self.gdn, strict=False):
            x = gdn(conv(x))
        latent: Tensor = self.conv[-1](x)
        return latent


class Synthesis(nn.Module):
    """(B, in_channels, h, w) -> (B, 3, 16 h, 16 w), `steps` as in the analysis that it undoes.

    With `repeat_second` the second deconvolution stands in the third's place as well, and the third doesn't exist: so
    were the published weights of NDIC trained. `joined` channels from elsewhere are expected behind the features of
    every inverse GDN.
    """

    def __init__(
        self, in_channels: int, channels: int, steps: Sequence[Step], *, repeat_second: bool = False, joined: int = 0
    ) -> None:
        super().__init__()
        outputs = [_checked(channels)] * (len(steps) - 1) + [3]
        inputs = [in_channels] + [channels + joined] * (len(steps) - 1)
        layers = list(zip(inputs, outputs, reversed(steps), strict=True))
        self._order = list(range(len(layers)))
        if repeat_second:
            self._order[2:] = [1, *range(2, len(layers) - 1)]
            del layers[2]
        self.deconv = nn.ModuleList(
            nn.ConvTranspose2d(a, b, s.kernel, s.stride, s.kernel // 2, output_padding=s.stride - 1)
            for a, b, s in layers
        )
        self.igdn = nn.ModuleList(_gdn(channels, inverse=True) for _ in steps[1:])

    def forward(self, latent: Tensor, join: Callable[[int, Tensor], Tensor] | None = None) -> Tensor:
        """The picture, not clamped. `join(i, features)` gives what comes behind those of the i-th inverse GDN."""
        x = latent
        for i in range(len(self.igdn)):
            x = self.stage(i, x)
            if join is not None:
                x = torch.cat([x, join(i, x)], 1)
        return self.last(x)

    def stage(self, i: int, x: Tensor) -> Tensor:
        """The features of the i-th inverse GDN."""
        features: Tensor = self.igdn[i](self.deconv[self._order[i]](x))
        return features

    def last(self, x: Tensor) -> Tensor:
        """The picture, from the last inverse GDN's features."""
        picture: Tensor = self.deconv[self._order[-1]](x)
        return picture

    def features(self, latent: Tensor) -> list[Tensor]:
        """Those of every inverse GDN; nothing is joined."""
        found = [latent]
        for i in range(len(self.igdn)):
            found.append(self.stage(i, found[-1]))
        return found[1:]


@contextlib.contextmanager
def float32_convolutions() -> Iterator[None]:
    """Full float32 in what runs inside: bf16 and TF32 would change symbols."""
    with (
        torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False),
        torch.autocast("cuda", enabled=False),
        torch.autocast("cpu", enabled=False),
    ):
        yield


def _gdn(channels: int, *, inverse: bool) -> nn.Module:
    module: nn.Module = import_compressai("compressai.layers").GDN(channels, inverse=inverse)
    for part in module.modules():  # constants of the reparametrisation, which have no place in a weights file
        for name, buffer in list(part.named_buffers(recurse=False)):
            part.register_buffer(name, buffer, persistent=False)
    return module


def _checked(channels: int) -> int:
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"{channels} channels were asked for, 1 to {MAX_CHANNELS} are possible")
    return channels
