"""Every error a user can meet, each with a message that is one clear sentence.

    SidecastError           exit code 1
    ├── ConfigError         a configuration that cannot work: every fault, with its place (exit code 2)
    ├── SourceError         a recording, folder or camera that cannot be read
    ├── StageError          a stage failed on a frame: which stage, which frame, the cause
    ├── LinkError           the two nodes cannot go on together: weights, format, address, the peer's failure
    └── WireError           bytes from outside that are no message of ours (counted, dropped; the run goes on)

The codec library has its own tree in `stages.codec.errors` (it imports nothing of ours); `encode` and `decode`
translate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "ConfigError",
    "Fault",
    "LinkError",
    "SidecastError",
    "SourceError",
    "StageError",
    "WireError",
]


class SidecastError(Exception):
    """The base of all errors whose message is meant for the user."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake in a configuration."""

    where: str
    """File, line and path, for example `kitti.yaml:12: nodes.encoder.stages[1].qualty`."""
    what: str
    """What was found, what is allowed, and the nearest match."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class ConfigError(SidecastError):
    """All the faults of a configuration at once, one line each."""

    exit_code = 2

    def __init__(self, faults: Sequence[Fault] | str) -> None:
        self.faults = () if isinstance(faults, str) else tuple(faults)
        super().__init__(faults if isinstance(faults, str) else "\n".join(map(str, self.faults)))


class SourceError(SidecastError):
    """A source that is missing, empty, unreadable or not what it should be."""


class StageError(SidecastError):
    """A stage that failed, with the frame it was working on."""

    def __init__(self, stage: str, frame_id: int | None, cause: str) -> None:
        self.stage, self.frame_id, self.cause = stage, frame_id, cause
        at = "" if frame_id is None else f" at frame {frame_id}"
        super().__init__(f"{stage}{at}: {cause}")


class LinkError(SidecastError):
    """A link that cannot be set up or that the other side has ended."""


class WireError(SidecastError):
    """A message that is damaged or not ours; the sentence says what was expected and what was found."""
