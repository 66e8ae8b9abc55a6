"""What a network must offer so that `Codec` can join it with coding tables and the container.

           g_a            round          tables
x ──────► analyse ──────► symbols ─────► coder ────► payload          encoder
                                                       │
x_hat ◄── synthesise ◄─── symbols ◄──── coder ◄────────┘              decoder
              ▲             prepare
              └─ prepared ◄──────────── side

A `HyperModel` transmits a hyper latent as well, ahead of the latent, whose tables then follow from it:

x ──────► analyse_both ──► latent, hyper ──► coder ──► payload ──► coder ──► hyper ──► latent_index ──► coder ──► latent
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MODELS", "AnyModel", "ConfigValue", "ContextModel", "HyperModel", "Model", "Network", "model_class"]

ConfigValue = bool | int | float | str

MODELS = {
    "bls17": "stages.codec.bls17:Bls17",
    "bmshj18": "stages.codec.bmshj18:Bmshj18",
    "ndic_bls17": "stages.codec.ndic_bls17:NdicBls17",
    "ndic_bmshj18": "stages.codec.ndic_bmshj18:NdicBmshj18",
    "cross_attention": "stages.codec.cross_attention:CrossAttention",
    "dsin": "stages.codec.dsin:Dsin",
    "disparity": "stages.codec.disparity.model:Disparity",
}
"""The models by name; each is imported when it is used."""


class Network(Protocol):
    """A network in evaluation mode, an `nn.Module` whose state is what a weights file stores.

    One that computes at a fixed size only has a `fit` too (`stages.codec.fit`), which brings pictures there and back,
    and says in `works_on` what it does.
    """

    name: ClassVar[str]
    """The key in MODELS."""
    config: Mapping[str, ConfigValue]
    """The keyword arguments that build it again: `type(model)(**model.config)`. Its constructor checks them and raises
    ValueError for what it can't be built with."""
    multiple: int
    """Pictures are padded to a multiple of this in both directions."""
    needs_side: bool
    """Whether it can't decode without a side view."""
    latent_channels: int
    latent_stride: int
    """Pixels per latent position, in both directions; divides `multiple`."""
    quality_range: tuple[float, float]
    """The smallest and the greatest quality; equal where the model has one rate point."""
    default_quality: float
    training_only: tuple[str, ...]
    """How the names of tensors begin that are not stored, because only training needs them."""

    def prepare(self, side: Tensor) -> Any:
        """What `synthesise` needs of the side view (padded like `x`); may run before the packet is there."""

    def synthesise(self, symbols: Tensor, quality: float, prepared: Any) -> Tensor:
        """x_hat (1, 3, H, W) float32 from symbols (C, h, w) int32; `prepared` is None where there is no side view."""

    def state_dict(self) -> dict[str, Tensor]:
        """As in `nn.Module`."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """As in `nn.Module`."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """As in `nn.Module`."""

    def to(self, device: torch.device) -> Any:
        """As in `nn.Module`."""

    def eval(self) -> Any:
        """As in `nn.Module`."""


class Model(Network, Protocol):
    """A network whose symbols are a latent, coded with tables that are known beforehand."""

    def analyse(self, x: Tensor, quality: float) -> Tensor:
        """Symbols (C, h, w) int32 of `x` (1, 3, H, W) float32, H and W multiples of `multiple`."""

    def table_index(self, quality: float, h: int, w: int) -> NDArray[np.int64]:
        """Which coding table each symbol uses: (C,) if it depends on the channel only, else (C * h * w,).

        Integers computed from integers and `quality` (a multiple of 1/256): the same on every machine.
        """


class HyperModel(Network, Protocol):
    """A network with a hyperprior: the latent's tables follow from the hyper latent, which is transmitted first."""

    hyper_channels: int
    hyper_stride: int
    """Latent positions per hyper position, in both directions; where it doesn't divide, the hyper latent is larger."""

    def analyse_both(self, x: Tensor, quality: float) -> tuple[Tensor, Tensor]:
        """Symbols of the hyper latent and of the latent, as in `Model.analyse`."""

    def hyper_index(self, quality: float) -> NDArray[np.int64]:
        """(hyper_channels,): which coding table each channel of the hyper latent uses."""

    def latent_index(self, hyper: Tensor, quality: float, h: int, w: int) -> NDArray[np.int64]:
        """(C * h * w,): which coding table each symbol of the latent uses, from hyper symbols on any device.

        Exact: the same on every machine, device and number of threads.
        """

    def highest_index(self, quality: float) -> int:
        """The greatest index that either of them can give."""


class ContextModel(Network, Protocol):
    """A network whose latent is coded in passes: each one's tables follow from the symbols of those before."""

    context: Any
    """The context model; None where there is none, and the network is a `Model`."""

    def analyse(self, x: Tensor, quality: float) -> Tensor:
        """As in `Model`."""

    def residuals(self, symbols: NDArray[np.int32], quality: float) -> list[tuple[NDArray[np.int32], NDArray[Any]]]:
        """What is coded for symbols (C, h, w): groups of numbers, each number with the index of its table."""

    def restored(
        self, read: Callable[[NDArray[Any]], NDArray[np.int32]], quality: float, h: int, w: int
    ) -> NDArray[np.int32]:
        """Symbols (C, h, w), from a reader of the numbers that belong to table indices, one group after the other.

        Exact: the same on every machine, device and number of threads, whatever the numbers.
        """

    def highest_index(self, quality: float) -> int:
        """The greatest index that can occur."""


AnyModel = Model | HyperModel | ContextModel


def model_class(name: str) -> type[Any]:
    """The class of a model; KeyError if there is none of that name."""
    module, _, attribute = MODELS[name].partition(":")
    found: type[Any] = getattr(importlib.import_module(module), attribute)
    return found
