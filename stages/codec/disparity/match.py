"""Siamese matching: where in the side view is what the rough picture shows?

Both views went through the same small network, so similar patches have similar features from the first step on.
Positions are counted in cells (8 or 4 pixels), never in fractions of the width: one set of weights serves any size.
The primary view is the left one: its content lies further left in the side view. Mirror both for a right primary view.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Match", "RowSearch", "WindowSearch", "warp"]

NEVER = -1e4
"""The score of a cell that may not be chosen."""


@dataclass(frozen=True, slots=True)
class Match:
    """What a search found, per cell of the primary view."""

    values: Tensor
    """(B, V, H, W): the side view's values there, averaged by the attention."""
    confidence: Tensor
    """(B, 2, H, W): weight of the best candidate, and of "no match"."""
    offset: Tensor
    """(B, 2, H, W) float32: column and row of the match minus those of the cell, in cells."""


class RowSearch(nn.Module):
    """Attention along the row (and its neighbours), `left` cells to the left and `right` cells to the right.

        primary features --\\
                            >-- normalised product * temperature + bias(offset), "no match" -- softmax --\\
        side features ----/                                                                              >-- values
        side values ------------------------------------------------------------------------------------/
    """

    def __init__(self, rows: int = 3, left: int = 32, right: int = 4) -> None:
        super().__init__()
        self.rows, self.left, self.right = rows, left, right
        self.log_temperature = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.zeros(left + right + 1, rows))
        self.no_match = nn.Parameter(torch.tensor(3.0))

    def forward(self, primary: Tensor, side: Tensor, values: Tensor, use: Tensor) -> Match:
        """Features (B, C, H, W) each, values (B, V, H, W), use (B,) bool: False gives "no match" everywhere."""
        b, _, h, w = primary.shape
        query = F.normalize(primary.float(), dim=1).permute(0, 2, 3, 1)
        key = self._rows(F.normalize(side.float(), dim=1))
        score = query @ key.transpose(2, 3) * self.log_temperature.exp() + self._bias(h, w)
        score = torch.where(use[:, None, None, None], score, NEVER)
        weight = torch.cat([score, self.no_match.expand(b, h, w, 1)], -1).softmax(-1)
        none, weight = weight[..., -1:], weight[..., :-1]
        found = weight.to(values.dtype) @ self._rows(values)
        best, index = weight.max(-1, keepdim=True)
        confidence = torch.cat([best, none], -1).permute(0, 3, 1, 2).to(values.dtype)
        return Match(found.permute(0, 3, 1, 2), confidence, self._offset(weight.detach(), index))

    def _rows(self, t: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H, W * rows, C): each row with its neighbours above and below, columns outermost."""
        b, c, h, w = t.shape
        half = self.rows // 2
        padded = F.pad(t, (0, 0, half, half))
        stacked = torch.stack([padded[:, :, i : i + h] for i in range(self.rows)], 4)
        return stacked.permute(0, 2, 3, 4, 1).reshape(b, h, w * self.rows, c)

    def _bias(self, h: int, w: int) -> Tensor:
        """(H, W, W * rows): the learned bias of every offset, NEVER outside the search range and the picture."""
        device = self.bias.device
        columns = torch.arange(w, device=device)
        offset = columns[None, :] - columns[:, None]
        table = self.bias[(offset + self.left).clamp(0, self.left + self.right)]
        outside = (offset < -self.left) | (offset > self.right)
        table = table.masked_fill(outside[..., None], NEVER).reshape(1, w, w, self.rows)
        line = torch.arange(h, device=device)[:, None] + torch.arange(self.rows, device=device) - self.rows // 2
        missing = ((line < 0) | (line >= h)).float() * NEVER
        return (table + missing[:, None, None, :]).reshape(h, w, w * self.rows)

    def _offset(self, weight: Tensor, index: Tensor) -> Tensor:
        """The best candidate's offset, its column refined by the weights of the two neighbours on its row."""
        w = weight.shape[2]
        column, row = index // self.rows, index % self.rows
        before = weight.gather(-1, (index - self.rows).clamp_min(0)) * (column > 0)
        after = weight.gather(-1, (index + self.rows).clamp_max(w * self.rows - 1)) * (column < w - 1)
        best = weight.gather(-1, index)
        shift = (after - before) / (before + best + after).clamp_min(1e-6)
        here = torch.arange(w, device=weight.device)[None, None, :, None]
        return torch.cat([column - here + shift, (row - self.rows // 2).float()], -1).permute(0, 3, 1, 2)


class WindowSearch(nn.Module):
    """Attention over a few cells around an expected match, with one twice as coarse as a guide."""

    def __init__(self, columns: int = 5, rows: int = 3) -> None:
        super().__init__()
        grid_y, grid_x = torch.meshgrid(
            torch.arange(rows) - rows // 2, torch.arange(columns) - columns // 2, indexing="ij"
        )
        self.register_buffer("dx", grid_x.flatten(), persistent=False)
        self.register_buffer("dy", grid_y.flatten(), persistent=False)
        self.log_temperature = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.zeros(rows * columns))
        self.no_match = nn.Parameter(torch.tensor(3.0))

    dx: Tensor
    dy: Tensor

    def forward(self, primary: Tensor, side: Tensor, values: Tensor, guide: Tensor, use: Tensor) -> Match:
        """As RowSearch; `guide` (B, 2, H / 2, W / 2): offsets in cells of twice the size."""
        b, c, h, w = primary.shape
        centre = F.interpolate((2 * guide).round(), scale_factor=2, mode="nearest").long()
        index, inside = self._cells(centre, h, w)
        query = F.normalize(primary.float(), dim=1).to(primary.dtype).permute(0, 2, 3, 1)[..., None]
        key = F.normalize(side.float(), dim=1).to(side.dtype).permute(0, 2, 3, 1).reshape(-1, c)
        score = (F.embedding(index, key) @ query)[..., 0].float() * self.log_temperature.exp() + self.bias
        score = torch.where(inside & use[:, None, None, None], score, NEVER)
        weight = torch.cat([score, self.no_match.expand(b, h, w, 1)], -1).softmax(-1)
        none, weight = weight[..., -1:], weight[..., :-1]
        table = values.permute(0, 2, 3, 1).reshape(-1, values.shape[1])
        # embedding_bag gathers and averages in one pass: ten times faster than a gather and a product (CPU, 384 x 1248).
        count = index.shape[-1]
        found = F.embedding_bag(
            index.reshape(-1, count), table, per_sample_weights=weight.to(table.dtype).reshape(-1, count), mode="sum"
        ).reshape(b, h, w, -1)
        confidence = torch.cat([weight.amax(-1, keepdim=True), none], -1)
        share = weight / weight.sum(-1, keepdim=True).clamp_min(1e-6)
        fine = torch.stack([(share * self.dx).sum(-1), (share * self.dy).sum(-1)], 1)
        return Match(found.permute(0, 3, 1, 2), confidence.permute(0, 3, 1, 2).to(values.dtype), centre + fine)

    def _cells(self, centre: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
        """Flat indices (B, H, W, K) of the candidates into (B * H * W), and which of them lie in the picture."""
        device = centre.device
        x = torch.arange(w, device=device)[None, None, :, None] + centre[:, 0, ..., None] + self.dx
        y = torch.arange(h, device=device)[None, :, None, None] + centre[:, 1, ..., None] + self.dy
        inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
        batch = torch.arange(centre.shape[0], device=device)[:, None, None, None]
        return (batch * h + y.clamp(0, h - 1)) * w + x.clamp(0, w - 1), inside


def warp(picture: Tensor, offset: Tensor) -> Tensor:
    """Bring `picture` (B, 3, H, W) to the primary view along offsets (B, 2, H, W) in pixels, bilinear."""
    _, _, h, w = picture.shape
    x = torch.arange(w, device=picture.device) + offset[:, 0]
    y = torch.arange(h, device=picture.device)[:, None] + offset[:, 1]
    grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], -1)
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)
