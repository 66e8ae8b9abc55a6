"""Turn a trained network into a weights file: half precision, coding tables, a description."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.codec import weights_file
from stages.codec.disparity.model import Disparity
from stages.codec.disparity.tables import probabilities
from stages.codec.entropy import CodingTables

__all__ = ["release"]


@torch.no_grad()
def release(model: nn.Module, path: Path, description: Mapping[str, Any]) -> bytes:
    """Write `path` and return its model id. The tables belong to the network as stored, in half precision."""
    assert isinstance(model, Disparity)
    stored = copy.deepcopy(model)
    for parameter in stored.parameters():
        if parameter.ndim >= 2:
            parameter.copy_(parameter.half())
    pmfs, offsets = probabilities(stored)
    return weights_file.save(path, stored, CodingTables.build(pmfs, offsets), description, float16=True)
