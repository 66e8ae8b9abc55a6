"""Whole files or none, in a folder that is made."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import StageError
from pipeline.replacing import replacing

__all__ = ["write_atomically"]


def write_atomically(path: Path, data: bytes, stage: str, frame_id: int | None = None) -> None:
    """Write `data` to `path`, making its folder; what was there stays until the new file is complete.

    Raises StageError with one sentence where that is impossible; nothing half-written is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            unfinished.write_bytes(data)
    except OSError as error:
        raise StageError(stage, frame_id, f"{path} cannot be written: {error.strerror or error}") from error
