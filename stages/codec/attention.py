"""Align the features of the side view by attention between patches, as in arXiv:2207.08489.

x (B, C, h, w) ─► 16 C tokens ─► embed ─► norm ─► q ─┐
                                                     ├─► 8 heads ─► embed back ─► aligned (B, C, h, w)
y (B, C, h, w) ─► 16 C tokens ─► embed ─► norm ─► k, v

A token is one patch of one channel; a patch is a quarter of the picture high and wide. Hence the fixed size.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GRID", "HEADS", "INNER", "PatchAttention"]

GRID = 4
"""Patches in either direction."""
EMBEDDING = 256
HEADS = 8
INNER = 2048
"""Of all heads together, as published."""
DROPOUT = 0.1


class PatchAttention(nn.Module):
    """Features of y in x's geometry; `size` is their height and width, multiples of 4, `inner` one of the heads."""

    def __init__(self, size: tuple[int, int], inner: int = INNER) -> None:
        super().__init__()
        self.patch = (size[0] // GRID, size[1] // GRID)
        length = self.patch[0] * self.patch[1]
        self.embed_x = nn.Linear(length, EMBEDDING)
        self.embed_y = nn.Linear(length, EMBEDDING)
        self.norm = nn.LayerNorm(EMBEDDING)
        self.query = nn.Linear(EMBEDDING, inner, bias=False)
        self.key_value = nn.Linear(EMBEDDING, 2 * inner, bias=False)
        self.merge = nn.Linear(inner, EMBEDDING)
        self.unembed = nn.Linear(EMBEDDING, length)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Aligned features (B, C, h, w) of y, by the likeness of both views' tokens."""
        query = self.query(self.norm(self.embed_x(self._tokens(x))))
        key, value = self.key_value(self.norm(self.embed_y(self._tokens(y)))).chunk(2, -1)
        found = F.scaled_dot_product_attention(_heads(query), _heads(key), _heads(value))
        merged = self.merge(found.transpose(1, 2).flatten(2))
        return self._picture(self.unembed(F.dropout(merged, DROPOUT, self.training)), x.shape[1])

    def _tokens(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 16 C, h / 4 * w / 4)."""
        b, c = x.shape[:2]
        cut = x.reshape(b, c, GRID, self.patch[0], GRID, self.patch[1])
        return cut.transpose(3, 4).reshape(b, c * GRID * GRID, -1)

    def _picture(self, tokens: Tensor, channels: int) -> Tensor:
        """The inverse of `_tokens`."""
        b = tokens.shape[0]
        cut = tokens.reshape(b, channels, GRID, GRID, *self.patch).transpose(3, 4)
        return cut.reshape(b, channels, GRID * self.patch[0], GRID * self.patch[1])


def _heads(x: Tensor) -> Tensor:
    """(B, tokens, inner) -> (B, 8, tokens, inner / 8)."""
    return x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2)
