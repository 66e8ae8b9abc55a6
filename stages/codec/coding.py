"""Which symbols a picture becomes, in which groups, and which coding table each symbol is coded with.

A `Model` has one group, its latent; a `HyperModel` two, the hyper latent and then the latent; a `ContextModel` many,
the passes over its latent, each with tables that follow from the passes before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.codec.entropy import SymbolReader
from stages.codec.model import AnyModel, ContextModel, HyperModel

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = ["Coded", "Groups", "highest_index", "read", "written"]

Symbols = NDArray[np.int32]
Groups = list[tuple[Symbols, NDArray[Any]]]
"""Numbers and the indices of their tables, in the order in which they are coded."""


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A picture between network and coder."""

    groups: Groups
    symbols: tuple[Symbols, ...]
    """What the groups stand for and the checksum is made of: (C, h, w), a hyper latent ahead of the latent."""


def written(model: AnyModel, x: Tensor, quality: float) -> Coded:
    """What is coded for a picture (1, 3, H, W)."""
    if has_hyper(model):
        hyper, latent = model.analyse_both(x, quality)
        index = model.latent_index(hyper, quality, *latent.shape[1:])
        return _plain([(hyper.cpu().numpy(), model.hyper_index(quality)), (latent.cpu().numpy(), index)])
    symbols = model.analyse(x, quality).cpu().numpy()
    if has_context(model):
        return Coded(model.residuals(symbols, quality), (symbols,))
    return _plain([(symbols, model.table_index(quality, *symbols.shape[1:]))])


def read(model: AnyModel, reader: SymbolReader, quality: float, h: int, w: int) -> Coded:
    """The groups of a picture whose latent has h x w positions; BitstreamError where the words can't be right."""
    if has_hyper(model):
        shape = (model.hyper_channels, -(-h // model.hyper_stride), -(-w // model.hyper_stride))
        hyper = _group(reader, model.hyper_index(quality), shape)
        index = model.latent_index(torch.from_numpy(hyper[0]), quality, h, w)
        return _plain([hyper, _group(reader, index, (model.latent_channels, h, w))])
    if has_context(model):
        groups: Groups = []

        def numbers(index: NDArray[Any]) -> Symbols:
            groups.append((reader.read(index), index))
            return groups[-1][0]

        return Coded(groups, (model.restored(numbers, quality, h, w),))
    return _plain([_group(reader, model.table_index(quality, h, w), (model.latent_channels, h, w))])


def highest_index(model: AnyModel, quality: float) -> int:
    """The greatest table index that can occur at a quality."""
    if has_hyper(model) or has_context(model):
        return model.highest_index(quality)
    return int(np.max(model.table_index(quality, 1, 1)))


def has_hyper(model: AnyModel) -> TypeIs[HyperModel]:
    """Whether the model transmits a hyper latent."""
    return hasattr(model, "analyse_both")


def has_context(model: AnyModel) -> TypeIs[ContextModel]:
    """Whether the latent is coded in passes."""
    return getattr(model, "context", None) is not None


def _plain(groups: Groups) -> Coded:
    return Coded(groups, tuple(symbols for symbols, _ in groups))


def _group(
    reader: SymbolReader, index: NDArray[np.int64], shape: tuple[int, int, int]
) -> tuple[Symbols, NDArray[np.int64]]:
    count = shape[0] * shape[1] * shape[2]
    return reader.read(index, count // index.size).reshape(shape), index
