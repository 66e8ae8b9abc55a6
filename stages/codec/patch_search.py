"""DSIN's patch search: the side view, put together anew from the patches that resemble the decoded picture's.

For each patch of the decoded picture: Pearson correlation with every window of the same size of the side view's own
reconstruction, in the colours R + G, R - G, (R + B) / 2, times a Gaussian around the patch's place as wide as half the
picture. Both pictures have gone through the codec, so what it took away doesn't disturb the search. The window found is
then taken from the original side view. From the authors' code (siFinder.py, AE.py of github.com/ayziksha/DSIN).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.codec.fit import Padded

__all__ = ["PATCH", "aligned_patches"]

PATCH = (20, 24)
"""Height and width of a patch, pixels."""
_TINY = 1e-8


@torch.no_grad()
def aligned_patches(decoded: Tensor, side_decoded: Tensor, side: Tensor) -> Tensor:
    """(B, 3, H, W) of patches of `side`, each where `decoded` resembles `side_decoded`; all (B, 3, H, W)."""
    height, width = decoded.shape[2:]
    fit = Padded(*PATCH)
    padded = [fit.apply(picture) for picture in (decoded, side_decoded, side)]
    found = [_aligned(*(picture[i] for picture in padded)) for i in range(len(decoded))]
    return fit.undo(torch.stack(found), height, width)


def _aligned(decoded: Tensor, side_decoded: Tensor, side: Tensor) -> Tensor:
    """The same for (3, H, W), H and W multiples of a patch; a row of patches at a time, or memory would run out."""
    where, colours = _colours(side_decoded), _colours(decoded)
    spread = _spread(where)
    rows = []
    for top in range(0, decoded.shape[1], PATCH[0]):
        patches = torch.stack(torch.split(colours[:, top : top + PATCH[0]], PATCH[1], 2))
        places = _places(patches, where, spread, top)
        rows.append(torch.cat([_window(side, *divmod(place, spread.shape[1])) for place in places], 2))
    return torch.cat(rows, 1)


def _places(patches: Tensor, where: Tensor, spread: Tensor, top: int) -> list[int]:
    """Where each of a row of patches (P, 3, 20, 24) is found: row * columns + column of the window.

    From the nearest rows to the farthest: no correlation exceeds 1, so a patch is settled once the mask farther out is
    below what it has found (measured: 25 s before, 3.6 s so, for a KITTI picture on one core).
    """
    rows, columns = spread.shape
    best = torch.full((len(patches),), -math.inf, device=where.device)
    places = torch.zeros(len(patches), dtype=torch.int64, device=where.device)
    for start, stop, most in _bands(top, rows, where.shape[1]):
        unsettled = (best < most).nonzero()[:, 0]
        if len(unsettled) == 0:
            continue
        likeness = _correlation(patches[unsettled], where[:, start : stop + PATCH[0] - 1], spread[start:stop])
        likeness = likeness * _mask(top, unsettled, range(start, stop), where)
        value, place = likeness.flatten(1).max(1)
        better = value > best[unsettled]
        best[unsettled[better]] = value[better]
        places[unsettled[better]] = place[better] + start * columns
    found: list[int] = places.tolist()
    return found


def _bands(top: int, rows: int, height: int) -> Iterator[tuple[int, int, float]]:
    """Ranges of rows, outward from `top`, each with the greatest value that the mask has in it."""
    step = max(PATCH[0], height // 8)
    for near in range(0, rows, step):
        most = math.exp(-4 * math.log(2) * (near / (0.5 * height)) ** 2)
        for start, stop in ((top + near, top + near + step), (top - near - step + 1, top - near + 1)):
            first, last = max(start, 0), min(stop, rows)
            if first < last:
                yield first, last, most


def _correlation(patches: Tensor, where: Tensor, spread: Tensor) -> Tensor:
    """Pearson's r (patches, rows, columns) of patches (P, 3, 20, 24) with every window."""
    centred = patches - patches.mean((1, 2, 3), keepdim=True)
    norm = centred.square().sum((1, 2, 3)).sqrt()[:, None, None]
    return F.conv2d(where[None], centred)[0] / (norm * spread + _TINY)


def _spread(where: Tensor) -> Tensor:
    """The root of the summed squared deviations of every window, (rows, columns)."""
    area = PATCH[0] * PATCH[1]
    # In float64: the variance of a nearly flat window is a small difference of large sums.
    planes = torch.stack([where.double().sum(0), where.double().square().sum(0)])
    sums, squares = (F.avg_pool2d(planes, PATCH, 1) * area).unbind(0)
    return (squares - sums.square() / (len(where) * area)).clamp_min(0).sqrt().float()


def _mask(top: int, patches: Tensor, rows: range, where: Tensor) -> Tensor:
    """Gaussians (patches, rows, columns) around patches of the row at `top`: 1/2 a quarter of the picture away."""
    height, width = where.shape[1:]
    down = torch.arange(rows.start, rows.stop, device=where.device) - top
    across = torch.arange(width - PATCH[1] + 1, device=where.device) - patches[:, None] * PATCH[1]
    far = (down / (0.5 * height)).square()[None, :, None] + (across / (0.5 * width)).square()[:, None, :]
    return torch.exp(-4 * math.log(2) * far)


def _window(side: Tensor, row: int, column: int) -> Tensor:
    return side[:, row : row + PATCH[0], column : column + PATCH[1]]


def _colours(picture: Tensor) -> Tensor:
    red, green, blue = picture.unbind(0)
    return torch.stack([red + green, red - green, (red + blue) / 2])
