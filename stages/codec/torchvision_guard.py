"""Import CompressAI also where torchvision was built for another torch.

CompressAI imports torchvision. Next to a CPU build of torch, pip installs a torchvision built for CUDA, whose import
fails with `operator torchvision::nms does not exist`, because its compiled library can't be loaded. Nothing of
CompressAI that is used here needs that library, so declaring the operators' names is enough. They must not be declared
where the library does load (every CUDA machine): a second declaration aborts the process. Hence: try first, declare
only upon exactly this error.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch

__all__ = ["import_compressai"]

_declared: list[Any] = []
"""Kept for ever: the operators are gone when their library object is."""


def import_compressai(module: str) -> Any:
    """The module of CompressAI of that dotted name."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        _declare_operators()
        importlib.import_module("torchvision")
    return importlib.import_module(module)


def _declare_operators() -> None:
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
