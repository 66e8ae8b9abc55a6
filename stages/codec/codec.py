"""A codec: a network, its coding tables, and the container, joined.

x ─► fit ─► analyse ─► symbols ─► range coder ─► payload ─► range coder ─► symbols ─► synthesise ─► unfit ─► x_hat
                                                                                          ▲
                                                                    side ─► fit ─► prepare┘
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.codec import coding, container, weights_file
from stages.codec.device import find_device
from stages.codec.entropy import CodingTables, SymbolReader, encode_groups
from stages.codec.errors import BitstreamError, CodecError
from stages.codec.fit import fit_of
from stages.codec.memory import keep_freed_memory
from stages.codec.model import AnyModel

__all__ = ["MAX_PIXELS", "Codec", "Prepared", "load_codec"]

MAX_PIXELS = 1 << 25
"""What `decode` accepts unless told otherwise: 8192 x 4096."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A side view after the part of the decoder that needs nothing but the side view."""

    width: int
    height: int
    features: Any
    """The model's own; opaque."""


class Codec:
    """Pictures to bytes and back. Stateless: one codec serves many streams, from several threads.

    Pictures are float32 (1, 3, H, W), nominally in [0, 1], of any size from 1 x 1 to 65535 x 65535.
    """

    def __init__(
        self,
        model: AnyModel,
        tables: CodingTables,
        *,
        model_id: bytes,
        name: str,
        description: dict[str, Any],
        device: torch.device,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.model_id, self.name, self.description, self.device = model_id, name, description, device
        self.max_pixels = max_pixels
        self._model, self._tables, self._fit = model, tables, fit_of(model)

    @property
    def needs_side(self) -> bool:
        """Whether decoding without a side view is impossible."""
        return self._model.needs_side

    @property
    def quality_range(self) -> tuple[float, float]:
        """The smallest and the greatest quality; equal where the codec has one rate point."""
        return self._model.quality_range

    @property
    def default_quality(self) -> float:
        """The quality of `encode` where none is given."""
        return self._model.default_quality

    @torch.inference_mode()
    def encode(self, x: Tensor, quality: float | None = None) -> bytes:
        """The payload of a picture. CodecError for a wrong shape, a quality out of range, values that aren't finite."""
        height, width = self._size(x)
        header = container.Header(width, height, self._quality(quality))
        coded = coding.written(self._model, self._fitted(x), header.quality)
        words = encode_groups(coded.groups, self._tables)
        return container.pack(header, container.checksum(header, *coded.symbols), words)

    @torch.inference_mode()
    def decode(
        self,
        payload: bytes,
        side: Tensor | None = None,
        clamp: bool = True,
        prepared: Prepared | None = None,
        max_pixels: int | None = None,
    ) -> Tensor:
        """x_hat (1, 3, H, W) float32 on the codec's device, clamped to [0, 1] unless told otherwise.

        The side view may be given as it is or already prepared. BitstreamError for a payload that is damaged, of more
        than `max_pixels`, or of another size than the side view; CodecError where a side view is needed and missing.
        """
        header = self.header(payload)
        if prepared is not None:
            self._check_side(header, prepared.width, prepared.height)
        elif side is not None:
            height, width = self._size(side)
            self._check_side(header, width, height)
        elif self.needs_side:
            raise CodecError(f"{self.name} can't decode without a side view")
        symbols = self._symbols(payload, max_pixels)
        if prepared is None and side is not None:
            prepared = self.prepare(side)
        x_hat = self._model.synthesise(
            torch.from_numpy(symbols).to(self.device), header.quality, prepared.features if prepared else None
        )
        x_hat = self._fit.undo(x_hat.float(), header.height, header.width)
        # A forged payload can drive a network beyond the floats; what comes out must be a picture all the same.
        return x_hat.nan_to_num_(0.0, 1.0, 0.0).clamp_(0, 1) if clamp else x_hat

    @torch.inference_mode()
    def prepare(self, side: Tensor) -> Prepared:
        """The side view's part of `decode`, which can run before the packet is there."""
        height, width = self._size(side)
        return Prepared(width, height, self._model.prepare(self._fitted(side)))

    def symbols(self, payload: bytes, max_pixels: int | None = None) -> Tensor:
        """The integer latent (C, h, w) int32 that a payload carries, on the CPU; BitstreamError as in `decode`."""
        return torch.from_numpy(self._symbols(payload, max_pixels))

    def header(self, payload: bytes) -> container.Header:
        """Width, height and quality of a payload, nothing else of which is looked at."""
        header, _, _ = container.parse(payload)
        low, high = self.quality_range
        if not low <= header.quality <= high:
            raise BitstreamError(f"the payload has quality {header.quality:g}, {self.name} has {low:g} to {high:g}")
        return header

    @torch.inference_mode()
    def _symbols(self, payload: bytes, max_pixels: int | None) -> NDArray[np.int32]:
        header = self.header(payload)
        limit = self.max_pixels if max_pixels is None else max_pixels
        if header.width * header.height > limit:
            raise BitstreamError(
                f"the payload is of {header.width} x {header.height} pixels, more than the {limit} allowed (max_pixels)"
            )
        _, check, words = container.parse(payload)
        h, w = (n // self._model.latent_stride for n in self._fit.size(header.height, header.width))
        reader = SymbolReader(words, self._tables)
        symbols = coding.read(self._model, reader, header.quality, h, w).symbols
        reader.close()
        if container.checksum(header, *symbols) != check:
            raise BitstreamError("the payload is damaged: the checksum of its symbols differs")
        return symbols[-1]

    def _quality(self, quality: float | None) -> float:
        """The quality as it travels, in steps of 1/256."""
        low, high = self.quality_range
        chosen = self.default_quality if quality is None else float(quality)
        if not low <= chosen <= high:
            only = f"only {low:g}" if low == high else f"{low:g} to {high:g}"
            raise CodecError(f"quality {chosen:g} was asked for, {self.name} has {only}")
        return round(chosen * container.QUALITY_STEPS) / container.QUALITY_STEPS

    def _check_side(self, header: container.Header, width: int, height: int) -> None:
        if (width, height) != (header.width, header.height):
            raise BitstreamError(
                f"the payload is of {header.width} x {header.height} pixels, the side view of {width} x {height}: "
                "either the payload is damaged or they don't belong together"
            )

    def _size(self, x: Tensor) -> tuple[int, int]:
        if x.ndim != 4 or x.shape[:2] != (1, 3) or x.dtype != torch.float32 or 0 in x.shape:
            raise CodecError(f"a picture is float32 of shape (1, 3, H, W), not {x.dtype} of shape {tuple(x.shape)}")
        return int(x.shape[2]), int(x.shape[3])

    def _fitted(self, x: Tensor) -> Tensor:
        return self._fit.apply(x.to(self.device))


def load_codec(
    path_or_name: Path | str = "default", device: str = "cpu", max_pixels: int = MAX_PIXELS, fit: str | None = None
) -> Codec:
    """The codec of a weights file, or of the shipped weights of that name.

    `device` is a torch device, or `auto`: CUDA where there is one, else the CPU. `fit`, for models of one fixed size
    only, is `tiles` or `resize` in place of what the file says; encoder and decoder need the same. WeightsError if the
    file can't be used, or not so; CodecError if the device can't.
    """
    target = find_device(device)
    if target.type == "cpu":
        keep_freed_memory()
    weights = weights_file.load(weights_file.find(path_or_name), None if fit is None else {"fit": fit})
    weights.model.to(target)
    works_on = getattr(weights.model, "works_on", None)
    return Codec(
        weights.model,
        weights.tables,
        model_id=weights.model_id,
        name=weights.name,
        description=weights.description | ({"works_on": works_on} if works_on else {}),
        device=target,
        max_pixels=max_pixels,
    )
