"""The device that a codec runs on, by the name that a user gives."""

from __future__ import annotations

import torch

from stages.codec.errors import CodecError

__all__ = ["find_device"]


def find_device(name: str) -> torch.device:
    """The torch device of that name, or `auto`: CUDA where there is one, else the CPU. CodecError if it isn't there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CodecError(f"there is no device {name!r}, expected auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise CodecError(f"device {name!r} can't be used, expected auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CodecError(f"device {name!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices")
    return device
