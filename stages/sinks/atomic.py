"""Whole files or none."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import StageError

__all__ = ["write_atomically"]


def write_atomically(path: Path, data: bytes, stage: str, frame_id: int | None = None) -> None:
    """Write `data` to `path`, making its folder; what was there stays until the new file is complete.

    Raises StageError with one sentence where that is impossible; nothing half-written is left behind.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(data)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise StageError(stage, frame_id, f"{path} cannot be written: {error.strerror or error}") from error
