"""Which symbols a picture becomes, in which groups, and which coding table each symbol is coded with.

A `Model` has one group, its latent; a `HyperModel` two, the hyper latent and then the latent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.codec.entropy import SymbolReader
from stages.codec.model import HyperModel, Model

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = ["Groups", "highest_index", "read", "written"]

Symbols = NDArray[np.int32]
Groups = list[tuple[Symbols, NDArray[np.int64]]]
"""Symbols (C, h, w) and their index, in the order in which they are coded; the latent is the last."""


def written(model: Model | HyperModel, x: Tensor, quality: float) -> Groups:
    """What is coded for a picture (1, 3, H, W)."""
    if not has_hyper(model):
        symbols = model.analyse(x, quality).cpu().numpy()
        return [(symbols, model.table_index(quality, *symbols.shape[1:]))]
    hyper, latent = model.analyse_both(x, quality)
    index = model.latent_index(hyper, quality, *latent.shape[1:])
    return [(hyper.cpu().numpy(), model.hyper_index(quality)), (latent.cpu().numpy(), index)]


def read(model: Model | HyperModel, reader: SymbolReader, quality: float, h: int, w: int) -> Groups:
    """The groups of a picture whose latent has h x w positions; BitstreamError where the words can't be right."""
    if not has_hyper(model):
        return [_group(reader, model.table_index(quality, h, w), (model.latent_channels, h, w))]
    shape = (model.hyper_channels, -(-h // model.hyper_stride), -(-w // model.hyper_stride))
    hyper = _group(reader, model.hyper_index(quality), shape)
    index = model.latent_index(torch.from_numpy(hyper[0]), quality, h, w)
    return [hyper, _group(reader, index, (model.latent_channels, h, w))]


def highest_index(model: Model | HyperModel, quality: float) -> int:
    """The greatest table index that can occur at a quality."""
    if has_hyper(model):
        return model.highest_index(quality)
    return int(np.max(model.table_index(quality, 1, 1)))


def has_hyper(model: Model | HyperModel) -> TypeIs[HyperModel]:
    """Whether the model transmits a hyper latent."""
    return hasattr(model, "analyse_both")


def _group(
    reader: SymbolReader, index: NDArray[np.int64], shape: tuple[int, int, int]
) -> tuple[Symbols, NDArray[np.int64]]:
    count = shape[0] * shape[1] * shape[2]
    return reader.read(index, count // index.size).reshape(shape), index
