"""Training samples: crops of real pairs at many scales, layered synthetic stereo, single pictures; with jitter."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.types import Pixels
from tools.training.config import Mixture
from tools.training.pictures import Library, Pair

__all__ = ["Batch", "Sampler", "paper_crop", "tensor"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """x and side (B, 3, H, W) float32 in [0, 1], channels last; use (B,) bool: whether there is a side view."""

    x: Tensor
    side: Tensor
    use: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch there."""
        return Batch(*(t.to(device) for t in (self.x, self.side, self.use)))


class Sampler:
    """Draws batches; the primary view is always the left one of its geometry (right views come mirrored)."""

    def __init__(self, library: Library, mixture: Mixture, size: tuple[int, int], seed: int) -> None:
        self.library, self.mixture, self.size = library, mixture, size
        self.rng = np.random.default_rng(seed)
        self._by_place = {(p.sequence, p.number): p for p in library.pairs + library.coarse}

    def batch(self, count: int) -> Batch:
        """`count` samples; some lose their side view, some get another sample's."""
        drawn = [self._sample() for _ in range(count)]
        x = torch.stack([tensor(d[0]) for d in drawn])
        side = torch.stack([tensor(d[1]) for d in drawn])
        use = torch.tensor([d[2] for d in drawn])
        for i in range(count):
            chance = self.rng.random()
            if chance < self.mixture.no_side:
                use[i] = False
            elif chance < self.mixture.no_side + self.mixture.wrong_side and count > 1:
                side[i] = tensor(drawn[(i + 1) % count][1])
        return Batch(
            x.contiguous(memory_format=torch.channels_last), side.contiguous(memory_format=torch.channels_last), use
        )

    def _sample(self) -> tuple[Floats, Floats, bool]:
        m, u = self.mixture, self.rng.random()
        single = False
        if u < m.small:
            low, high = m.small_scale
            pool = self.library.pairs if self.rng.random() < 0.75 or not self.library.coarse else self.library.coarse
            pair = self._crop(self._views(pool), self.rng.uniform(low, high))
        elif u < m.small + m.native:
            low, high = m.native_scale
            pair = self._crop(self._views(self.library.pairs), self.rng.uniform(low, high))
        elif u < m.small + m.native + m.layered:
            pair = self._layered()
        else:
            single = True
            picture = self._texture(self.size)
            pair = (picture, picture)
        if self.rng.random() < 0.5:
            pair = (pair[1][:, ::-1], pair[0][:, ::-1])
        return *self._jitter(pair), not single

    def _views(self, pool: list[Pair]) -> tuple[Pixels, Pixels]:
        pair = pool[self.rng.integers(len(pool))]
        if self.rng.random() < self.mixture.neighbour:
            step = int(self.rng.choice([-1, 1]))
            beside = self._by_place.get((pair.sequence, pair.number + step))
            if beside is not None:
                return pair.left, beside.right
        return pair.left, pair.right

    def _crop(self, views: tuple[Pixels, Pixels], scale: float) -> tuple[Pixels, Pixels]:
        """The same random window of both views, `scale` times the sample's size, shrunk to it."""
        w, h = self.size
        height, width = views[0].shape[:2]
        scale = min(scale, height / h, width / w)
        ch, cw = int(h * scale), int(w * scale)
        y, x = self.rng.integers(height - ch + 1), self.rng.integers(width - cw + 1)
        a, b = (v[y : y + ch, x : x + cw] for v in views)
        return (a, b) if (cw, ch) == (w, h) else (_shrink(a, self.size), _shrink(b, self.size))

    def _texture(self, size: tuple[int, int]) -> Pixels:
        w, h = size
        pool = self.library.singles or [p.left for p in self.library.pairs]
        picture = pool[self.rng.integers(len(pool))]
        height, width = picture.shape[:2]
        scale = self.rng.uniform(0.8, 2.5)
        cw, ch = min(width, int(w * scale)), min(height, int(h * scale))
        y, x = self.rng.integers(height - ch + 1), self.rng.integers(width - cw + 1)
        return _shrink(picture[y : y + ch, x : x + cw], size)

    def _layered(self) -> tuple[Pixels, Pixels]:
        """A background that recedes to a horizon and flat layers in front of it, each with its own disparity."""
        w, h = self.size
        rng, margin = self.rng, 32
        ground = self._texture((w + 2 * margin, h))
        far, near, horizon = rng.uniform(0, 3), rng.uniform(3, 24), rng.integers(h // 6, 2 * h // 3)
        rows = np.arange(h, dtype=np.float32)
        disparity = np.where(rows < horizon, far, far + (near - far) * (rows - horizon) / (h - horizon))
        gx, gy = np.meshgrid(np.arange(w, dtype=np.float32) + margin, rows)
        left = cv2.remap(ground, gx, gy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        moved = (gx + disparity[:, None]).astype(np.float32)
        right = cv2.remap(ground, moved, gy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for d in np.sort(rng.uniform(2, 28, rng.integers(1, 7))):
            self._paste(left, right, float(d))
        return left, right

    def _paste(self, left: Pixels, right: Pixels, disparity: float) -> None:
        rng, (width, height) = self.rng, self.size
        w, h = (int(rng.integers(16, 91)) for _ in range(2))
        texture = self._texture((w, h))
        mask = np.zeros((h, w), np.float32)
        if rng.random() < 0.5:
            cv2.ellipse(mask, (w // 2, h // 2), (w // 2 - 1, h // 2 - 1), 0, 0, 360, 1.0, -1)
        else:
            corners = np.stack([rng.integers(0, w + 1, 5), rng.integers(0, h + 1, 5)], 1).astype(np.int32)
            cv2.fillPoly(mask, [corners], 1.0)
        mask = cv2.GaussianBlur(mask, (3, 3), 0.6)
        x, y = rng.integers(-20, width - 6), rng.integers(0, height - 8)
        for view, shift in ((left, 0.0), (right, disparity)):
            place = np.array([[1, 0, x - shift], [0, 1, y]], np.float32)
            cover = cv2.warpAffine(mask, place, (width, height))[..., None]
            layer = cv2.warpAffine(texture, place, (width, height))
            view[:] = (view * (1 - cover) + layer * cover).astype(np.uint8)

    def _jitter(self, pair: tuple[Pixels, Pixels]) -> tuple[Floats, Floats]:
        """Brightness of both views together, then brightness, contrast and colour of the side view alone."""
        rng = self.rng
        gain = rng.uniform(0.8, 1.2) / 255
        x, side = (np.clip(v.astype(np.float32) * gain, 0, 1) for v in pair)
        colour = (rng.uniform(0.93, 1.07) * rng.uniform(0.98, 1.02, 3)).astype(np.float32)
        side = np.clip(side * colour + np.float32(rng.uniform(-0.02, 0.02)), 0, 1)
        return x, side


def paper_crop(picture: Pixels) -> Pixels:
    """The papers' pre-processing: centre crop to 370 x 740, shrunk to 128 x 256."""
    height, width = picture.shape[:2]
    h, w = min(370, height), min(740, width)
    y, x = (height - h) // 2, (width - w) // 2
    return _shrink(picture[y : y + h, x : x + w], (256, 128))


def tensor(picture: Floats) -> Tensor:
    """(H, W, 3) float32 -> (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def _shrink(picture: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
