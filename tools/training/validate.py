"""Validation on scenes that are never trained on: rates estimated on rounded symbols, quality of 8-bit pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pytorch_msssim import ms_ssim
from torch import Tensor

from pipeline.types import Pixels
from tools.training.pictures import Library, Pair
from tools.training.samples import paper_crop, tensor

__all__ = ["Estimate", "Score", "gist", "validate"]

Estimate = Callable[[Tensor, Tensor | None, float], tuple[Tensor, Tensor]]
"""(x, side, quality), pictures (1, 3, H, W) in [0, 1] -> x_hat, bits (1,)."""

SideMode = Literal["side", "none", "wrong"]
View = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Score:
    """Means over pictures."""

    bpp: float
    psnr_db: float
    ms_ssim: float


def validate(
    estimate: Estimate, qualities: tuple[float, ...], library: Library, device: torch.device
) -> dict[str, float]:
    """Scores by name: the papers' crop at every quality; without and with a wrong side view, and at native size, at the
    middle one. The drives held out are used; `{}` where there are none."""
    drives = [pair for name, pairs in library.validation.items() if "odom" in name for pair in pairs]
    if not drives:
        return {}
    crops = [_views(p, lambda view: _picture(paper_crop(view)), device) for p in drives]
    native = [_views(p, _native, device) for p in drives[::4]]
    scores: dict[str, float] = {}
    for quality in qualities:
        s = score(estimate, crops, quality, "side")
        scores |= {f"bpp_q{quality:g}": s.bpp, f"psnr_db_q{quality:g}": s.psnr_db, f"ms_ssim_q{quality:g}": s.ms_ssim}
    middle = qualities[len(qualities) // 2]
    for mode in ("none", "wrong"):
        scores[f"psnr_{mode}_q{middle:g}"] = score(estimate, crops, middle, mode).psnr_db
    s = score(estimate, native, middle, "side")
    return scores | {f"native_bpp_q{middle:g}": s.bpp, f"native_psnr_db_q{middle:g}": s.psnr_db}


def score(estimate: Estimate, pairs: list[View], quality: float, mode: SideMode) -> Score:
    """The mean of one quality over pairs of (3, H, W) pictures in [0, 1]."""
    results = []
    for i, (x, side) in enumerate(pairs):
        other = pairs[(i + len(pairs) // 2) % len(pairs)][1] if mode == "wrong" else side
        x_hat, bits = estimate(x[None], None if mode == "none" else other[None], quality)
        x_hat = (x_hat.clamp(0, 1) * 255).round() / 255
        mse = (x_hat - x[None]).square().mean()
        window = 7 if min(x.shape[1:]) < 160 else 11
        similarity = ms_ssim(x_hat, x[None], data_range=1.0, win_size=window)
        results.append(torch.stack([bits[0] / (x.shape[1] * x.shape[2]), -10 * mse.log10(), similarity]))
    return Score(*torch.stack(results).mean(0).tolist())


def gist(scores: dict[str, float]) -> str:
    """The scores in one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in scores.items())


def _views(pair: Pair, made: Callable[[Pixels], Tensor], device: torch.device) -> View:
    return made(pair.left).to(device), made(pair.right).to(device)


def _picture(pixels: Pixels) -> Tensor:
    return tensor(pixels.astype(np.float32) / 255)


def _native(pixels: Pixels) -> Tensor:
    """At most 352 x 1216 from the middle, as the figures at native size are quoted; multiples of 16."""
    height, width = (min(n, limit) // 16 * 16 for n, limit in zip(pixels.shape, (352, 1216), strict=False))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return _picture(pixels[top : top + height, left : left + width])
