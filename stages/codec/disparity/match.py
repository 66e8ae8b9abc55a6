"""Siamese matching: where in the side view is what the rough picture shows?

Both views went through the same small network, so similar patches have similar features from the first step on.
Positions are counted in cells (8 or 4 pixels), never in fractions of the width: one set of weights serves any size.
The primary view is the left one: its content lies further left in the side view. Mirror both for a right primary view.

What can be chosen is laid out before the packet arrives, by `keys`. A margin that nothing can match stands around it,
so that no position needs to be asked whether it lies in the picture. Work is cut into pieces that fit a cache: on a CPU
fresh memory costs more than the products.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Keys", "Match", "RowSearch", "WindowSearch", "no_match", "warp"]

NEVER = -1e4
"""The score of a cell that may not be chosen."""
BLOCK = 32
"""Cells of a row that are matched together."""
AT_ONCE = 512
"""Windows, in whole rows, that are compared together on a CPU."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A side view, ready to be searched, with a margin around it."""

    features: Tensor
    """(B, H + margins, W + margins, C + 1), of length 1; the last channel is NEVER where there is nothing to choose"""
    values: Tensor
    """(B, H + margins, W + margins, V + 2): what is carried over; two channels are left for what `Match` adds"""


@dataclass(frozen=True, slots=True)
class Match:
    """What a search found, per cell of the primary view."""

    found: Tensor
    """(B, V + 2, H, W): the side view's values there, averaged by the attention; then the weight of the best candidate
    and that of "no match"."""
    offset: Tensor
    """(B, 2, H, W) float32: column and row of the match minus those of the cell, in cells."""


class RowSearch(nn.Module):
    r"""Attention along the row (and its neighbours), `left` cells to the left and `right` cells to the right.

        primary features --\
                            >-- normalised product * temperature + bias(offset), "no match" -- softmax --\
        side features ----/                                                                              >-- values
        side values ------------------------------------------------------------------------------------/

    Rows are cut into blocks of BLOCK cells, each with the stretch of the side view that it can reach, so that work and
    memory grow with the width and not with its square.
    """

    def __init__(self, rows: int = 3, left: int = 32, right: int = 4) -> None:
        super().__init__()
        self.rows, self.left, self.right = rows, left, right
        self.log_temperature = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.zeros(left + right + 1, rows))
        self.no_match = nn.Parameter(torch.tensor(3.0))

    def keys(self, side: Tensor, values: Tensor, use: Tensor) -> Keys:
        """Features (B, C, H, W), values (B, V, H, W), use (B,) bool: False gives "no match" everywhere."""
        return _keys(side, values, use, (self.left, self.right), (self.rows // 2, self.rows // 2))

    def forward(self, primary: Tensor, side: Keys) -> Match:
        """Features (B, C, H, W)."""
        cells = primary.permute(0, 2, 3, 1)
        blocks = [
            self._block(cells[:, :, first : first + BLOCK], side, first) for first in range(0, cells.shape[2], BLOCK)
        ]
        found, offset = (torch.cat(parts, 2).permute(0, 3, 1, 2) for parts in zip(*blocks, strict=True))
        return Match(found, offset)

    def _block(self, primary: Tensor, side: Keys, first: int) -> tuple[Tensor, Tensor]:
        """What is found for a block (B, H, BLOCK, C), columns from `first` on, and its offset, (B, H, BLOCK, ...)."""
        h, n = primary.shape[1:3]
        query = _query(primary, self.log_temperature)
        reach = slice(first, first + n + self.left + self.right)
        rows = [slice(row, row + h) for row in range(self.rows)]
        scores = [query @ side.features[:, row, reach].transpose(2, 3) for row in rows]
        weight = (torch.cat([*scores, torch.zeros_like(scores[0][..., :1])], 3).float() + self._bias(n)).softmax(3)
        found = torch.zeros_like(side.values[:, :h, :n]).flatten(0, 1)
        shares = torch.split(weight.to(found.dtype).flatten(0, 1), reach.stop - reach.start, 2)
        for share, row in zip(shares[: self.rows], rows, strict=True):
            found = torch.baddbmm(found, share, side.values[:, row, reach].flatten(0, 1))
        best, index = weight[..., :-1].max(3, keepdim=True)
        found = _with(torch.unflatten(found, 0, (-1, h)), best, weight[..., -1:])
        return found, self._offset(weight.detach()[..., :-1], index)

    def _bias(self, n: int) -> Tensor:
        """(n, rows * reach + 1): each offset's learned bias, NEVER out of reach; last "no match"."""
        device = self.bias.device
        offset = torch.arange(n + self.left + self.right, device=device) - torch.arange(n, device=device)[:, None]
        near = (offset >= 0) & (offset <= self.left + self.right)
        table = self.bias[offset.clamp(0, self.left + self.right)]
        table = torch.where(near[..., None], table, NEVER).transpose(1, 2).flatten(1)
        return torch.cat([table, self.no_match.expand(n, 1)], 1)

    def _offset(self, weight: Tensor, index: Tensor) -> Tensor:
        """The best candidate's offset, its column refined by the weights of the two neighbours on its row."""
        n = weight.shape[2]
        reach = weight.shape[3] // self.rows
        row, cell = index // reach, index % reach
        before = weight.gather(3, (index - 1).clamp_min(0)) * (cell > 0)
        after = weight.gather(3, (index + 1).clamp_max(weight.shape[3] - 1)) * (cell < reach - 1)
        best = weight.gather(3, index)
        shift = (after - before) / (before + best + after).clamp_min(1e-6)
        here = torch.arange(n, device=weight.device)[:, None] + self.left
        return torch.cat([cell - here + shift, (row - self.rows // 2).float()], 3)


class WindowSearch(nn.Module):
    """Attention over a few cells around an expected match, with one twice as coarse as a guide.

    The four cells that share an expected match are compared with one window, all that the four can reach.
    """

    def __init__(self, columns: int = 5, rows: int = 3) -> None:
        super().__init__()
        self.columns, self.rows = columns, rows
        y, x = (t.flatten()[:, None] for t in torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij"))
        down, right = torch.meshgrid(torch.arange(rows + 1), torch.arange(columns + 1), indexing="ij")
        dy, dx = down.flatten() - y, right.flatten() - x
        near = (dy >= 0) & (dy < rows) & (dx >= 0) & (dx < columns)
        self.register_buffer("near", near, persistent=False)
        self.register_buffer("candidate", torch.where(near, dy * columns + dx, 0), persistent=False)
        self.register_buffer("dx", dx - columns // 2, persistent=False)
        self.register_buffer("dy", dy - rows // 2, persistent=False)
        self.log_temperature = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.zeros(rows * columns))
        self.no_match = nn.Parameter(torch.tensor(3.0))

    near: Tensor
    """(4, window) bool: what of the window each of the four cells can reach"""
    candidate: Tensor
    """(4, window): which candidate that is"""
    dx: Tensor
    """(4, window): how much further right than the cell, beside what is expected"""
    dy: Tensor

    def keys(self, side: Tensor, values: Tensor, use: Tensor) -> Keys:
        """As those of RowSearch."""
        return _keys(side, values, use, (self.columns + 1,) * 2, (self.rows + 1,) * 2)

    def forward(self, primary: Tensor, side: Keys, guide: Tensor) -> Match:
        """Features (B, C, H, W); `guide` (B, 2, H / 2, W / 2): offsets in cells of twice the size."""
        b, c, h, w = primary.shape
        centre = (2 * guide).round().long()
        cells = primary.permute(0, 2, 3, 1).reshape(b * h // 2, 2, w // 2, 2, c)
        windows = self._window(centre, side).view(b * h // 2, w // 2, -1)
        bias = torch.where(self.near, self.bias[self.candidate], NEVER)
        bias = torch.cat([bias, self.no_match.expand(4, 1)], 1)
        at_once = max(1, 2 * AT_ONCE // w) if primary.device.type == "cpu" else b * h // 2
        parts = [
            self._rows(*few, side, bias)
            for few in zip(torch.split(cells, at_once), torch.split(windows, at_once), strict=True)
        ]
        found, fine = (torch.cat(part).view(b, h, w, -1).permute(0, 3, 1, 2) for part in zip(*parts, strict=True))
        return Match(found, F.interpolate(centre.float(), scale_factor=2, mode="nearest") + fine)

    def _rows(self, primary: Tensor, windows: Tensor, side: Keys, bias: Tensor) -> tuple[Tensor, Tensor]:
        """What is found for cells (rows, 2, W / 2, 2, C) in windows (rows, W / 2, window), and its offset."""
        rows, _, w, _, c = primary.shape
        query = _query(primary.transpose(1, 2).reshape(rows * w, 4, c), self.log_temperature)
        places = windows.flatten(0, 1)
        key, values = (F.embedding(places, table.flatten(0, 2)) for table in (side.features, side.values))
        score = F.pad(query @ key.transpose(1, 2), (0, 1)).float() + bias
        weight, none = torch.split(score.softmax(2), [key.shape[1], 1], 2)
        found = _with(weight.to(values.dtype) @ values, weight.amax(2, keepdim=True), none)
        some = weight.sum(2).clamp_min(1e-6)
        fine = torch.stack([(weight * self.dx).sum(2) / some, (weight * self.dy).sum(2) / some], 2)
        return (found.view(rows, w, 2, 2, -1).transpose(1, 2), fine.view(rows, w, 2, 2, -1).transpose(1, 2))

    def _window(self, centre: Tensor, side: Keys) -> Tensor:
        """(P, window) places in the flattened keys: all that the four cells of each place of the guide can reach."""
        b, _, h, w = centre.shape
        device = centre.device
        _, height, width, _ = side.features.shape
        # Two cells of this scale to one of the guide's; the margin is as wide as the window.
        x = 2 * torch.arange(w, device=device) + centre[:, 0] - self.columns // 2 + self.columns + 1
        y = 2 * torch.arange(h, device=device)[:, None] + centre[:, 1] - self.rows // 2 + self.rows + 1
        x, y = x.clamp(0, width - self.columns - 1), y.clamp(0, height - self.rows - 1)
        first = (torch.arange(b, device=device)[:, None, None] * height + y) * width + x
        down, right = torch.arange(self.rows + 1, device=device), torch.arange(self.columns + 1, device=device)
        return first.reshape(-1, 1) + (down[:, None] * width + right).flatten()


def no_match(h: Tensor, values: int) -> Match:
    """What a search for so many values says, for each place of (B, C, H, W), where there is no side view."""
    b, _, height, width = h.shape
    found = torch.cat([h.new_zeros(b, values + 1, height, width), h.new_ones(b, 1, height, width)], 1)
    return Match(found, h.new_zeros(b, 2, height, width))


def warp(picture: Tensor, offset: Tensor) -> Tensor:
    """Bring `picture` (B, 3, H, W) to the primary view along offsets (B, 2, H, W) in pixels, bilinear."""
    _, _, h, w = picture.shape
    x = torch.arange(w, device=picture.device) + offset[:, 0]
    y = torch.arange(h, device=picture.device)[:, None] + offset[:, 1]
    grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], -1)
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _with(values: Tensor, best: Tensor, none: Tensor) -> Tensor:
    """Fill in the two channels that are left."""
    values[..., -2:-1], values[..., -1:] = best, none
    return values


def _query(primary: Tensor, log_temperature: Tensor) -> Tensor:
    """(..., C) -> (..., C + 1), of the temperature's length; the last channel asks whether one may choose."""
    scaled = F.normalize(primary.float(), dim=-1) * log_temperature.exp()
    return F.pad(scaled, (0, 1), value=1.0).to(primary.dtype)


def _keys(side: Tensor, values: Tensor, use: Tensor, across: tuple[int, int], along: tuple[int, int]) -> Keys:
    """Margins of so many columns and rows, each at the start and at the end."""
    unit = F.normalize(side.float().permute(0, 2, 3, 1), dim=3)
    may = torch.where(use, 0.0, NEVER)[:, None, None, None].expand(*unit.shape[:3], 1)
    features = F.pad(torch.cat([unit, may], 3), (0, 0, *across, *along))
    for dim, (start, end) in ((1, along), (2, across)):
        size = features.shape[dim]
        features.narrow(dim, 0, start)[..., -1] = NEVER
        features.narrow(dim, size - end, end)[..., -1] = NEVER
    return Keys(features.to(side.dtype), F.pad(values.permute(0, 2, 3, 1), (0, 2, *across, *along)))
