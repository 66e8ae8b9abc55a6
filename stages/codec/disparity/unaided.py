"""The decoder of the default codec for pictures without a side view: a network of its own.

One network for both cases has to split its capacity; measured, two give 0.1 to 0.2 dB more without a side view. It is
fitted to the frozen codec after training (`tools.training.unaided`), so that the bits stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.codec.disparity.blocks import DepthConvBlock, Pointwise, cells, interpolated, pixels, raised

__all__ = ["Unaided"]


class Unaided(nn.Module):
    """The trunk at 1/8 and the head at 1/4 of `Disparity`, less everything that looks at a side view, and deeper.

    latent -- up (1/8) -- FiLM(quality) -- trunk_1 -- fuse -- trunk_2 -- to_4 -- head -- + --> x_hat
                                                       |                          |      |
    x_linear ----------------------------------- cells of 8 ----------------- cells of 4 |
       |_________________________________________________________________________________|
    """

    def __init__(self, latent: int, trunk: int, head: int, anchors: int) -> None:
        super().__init__()
        self.up = nn.Sequential(Pointwise(latent, 4 * trunk), nn.PixelShuffle(2))
        self.film = nn.Parameter(torch.zeros(anchors, trunk))
        self.trunk_1 = nn.Sequential(*(DepthConvBlock(trunk) for _ in range(3)))
        self.fuse = Pointwise(trunk + 192, trunk)
        self.trunk_2 = nn.Sequential(*(DepthConvBlock(trunk) for _ in range(5)))
        self.to_4 = nn.Sequential(Pointwise(trunk, 192), nn.PixelShuffle(2))
        self.head = nn.Sequential(Pointwise(48 + 48, head), DepthConvBlock(head), DepthConvBlock(head))
        self.out = nn.Sequential(Pointwise(head, 48))

    def forward(self, latent: Tensor, used: Tensor | None, at_8: Tensor, x_linear: Tensor, place: Tensor) -> Tensor:
        """x_hat (B, 3, H, W), not clamped, of an unscaled latent (B, C, H / 16, W / 16) and the linear picture.

        That is given twice: in cells of 8 and as it is. `used`: channels of the latent that are not zero, None: all.
        `place` (B,): quality in [0, 1].
        """
        h = self.trunk_1(raised(self.up, latent, used) * (1 + interpolated(self.film, place))[:, :, None, None])
        h = self.to_4(self.trunk_2(self.fuse(h, at_8.to(h.dtype))))
        h = self.out(self.head[1:](self.head[0](h, cells(x_linear, 4, h.dtype))))
        return pixels(h.float(), 4).add_(x_linear)

    @torch.no_grad()
    def take_over(self, shared: Mapping[str, Tensor]) -> None:
        """Compute what the network for both cases, of that state, computes where it has no side view."""
        state = self.state_dict()
        # The blocks that it lacks add nothing at first.
        state |= {name: torch.zeros_like(t) for name, t in state.items() if ".leave." in name or ".contract." in name}
        state |= {name: tensor for name, tensor in shared.items() if name in state}
        # There all inputs from the side view are 0 but one, the weight of "no match", which is 1.
        for name, kept, certain in (
            ("fuse", self.fuse.in_channels, -1),
            ("head.0", 96, 48 + 48 + 48 + 1),
        ):
            weight = shared[f"{name}.weight"]
            state[f"{name}.weight"] = weight[:, :kept]
            state[f"{name}.bias"] = shared[f"{name}.bias"] + weight[:, certain, 0, 0]
        self.load_state_dict(state)
