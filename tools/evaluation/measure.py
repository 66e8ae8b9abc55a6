"""Code every picture with everything, decode it again, and measure what came back, as 8-bit RGB."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from pipeline.types import Pixels
from stages.similarity import ms_ssim, psnr_db
from stages.tensors import to_pixels, to_tensor
from tools.evaluation.models import ModelPoint
from tools.evaluation.rivals import Rival
from tools.evaluation.samples import Loaded, Sample, Side
from tools.evaluation.table import Row

__all__ = ["Bench", "Measured"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A row, and the picture that it is about."""

    row: Row
    decoded: Pixels


@dataclass(slots=True)
class Bench:
    """Everything that is compared.

    All pictures of a data set are one stream of a rival's: its parameters are counted with the first picture, and again
    with the first of another size.
    """

    models: list[ModelPoint]
    rivals: list[Rival]
    _parameters: set[tuple[str, float, str, bytes]] = field(default_factory=set)
    _warm: set[tuple[int, tuple[int, ...]]] = field(default_factory=set)

    def measure(self, sample: Sample, loaded: Loaded) -> Iterator[Measured]:
        """All rows of one picture; the side views are those of `loaded`."""
        for point in self.models:
            yield from self._model(point, sample, loaded)
        for rival in self.rivals:
            for quality in rival.qualities:
                yield self._rival(rival, quality, sample, loaded.primary)

    def skipped(self, sides: tuple[Side, ...]) -> list[str]:
        """The curves that were asked for but can't be: models that need a side view, without one."""
        needy = dict.fromkeys(point.curve for point in self.models if point.codec.needs_side)
        return [name + side.suffix for name in needy for side in sides if side.kind == "none"]

    def _model(self, point: ModelPoint, sample: Sample, loaded: Loaded) -> Iterator[Measured]:
        """The encoder never sees the side view: one payload, decoded with each of them."""
        self._warm_up(point, loaded)
        codec, pixels = point.codec, loaded.primary
        payload, encode_ms = _timed(lambda: codec.encode(to_tensor(pixels, codec.device), point.setting))
        for side, view in loaded.sides.items():
            if view is None and codec.needs_side:
                continue
            decoded, decode_ms = _timed(partial(_decoded, point, payload, view))
            name = point.curve + side.suffix
            yield _measured(name, point.quality, sample, pixels, decoded, len(payload), (encode_ms, decode_ms))

    def _warm_up(self, point: ModelPoint, loaded: Loaded) -> None:
        """The first run of a network at a size takes longer, which is not what the times are about."""
        key = (id(point.codec), loaded.primary.shape)
        if key not in self._warm:
            self._warm.add(key)
            payload = point.codec.encode(to_tensor(loaded.primary, point.codec.device), point.setting)
            _decoded(point, payload, next((v for v in loaded.sides.values() if v is not None), loaded.primary))

    def _rival(self, rival: Rival, quality: float, sample: Sample, pixels: Pixels) -> Measured:
        coded, encode_ms = _timed(lambda: rival.encode(pixels, quality))
        decoded, decode_ms = _timed(lambda: rival.decode(coded, *pixels.shape[:2]))
        size = len(coded.picture)
        key = (rival.name, quality, sample.data, coded.parameters)
        if key not in self._parameters:
            self._parameters.add(key)
            size += len(coded.parameters)
        return _measured(rival.name, f"{quality:g}", sample, pixels, decoded, size, (encode_ms, decode_ms))


def _decoded(point: ModelPoint, payload: bytes, side: Pixels | None) -> Pixels:
    codec = point.codec
    return to_pixels(codec.decode(payload, None if side is None else to_tensor(side, codec.device)))


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    """What it returns, and the milliseconds that it took."""
    began = time.perf_counter()
    result = call()
    return result, (time.perf_counter() - began) * 1e3


def _measured(
    codec: str, quality: str, sample: Sample, original: Pixels, decoded: Pixels, size: int, ms: tuple[float, float]
) -> Measured:
    bpp = size * 8 / (original.shape[0] * original.shape[1])
    values = (bpp, psnr_db(decoded, original), ms_ssim(decoded, original))
    return Measured(Row(codec, quality, sample.data, sample.image, *values, *ms), decoded)
