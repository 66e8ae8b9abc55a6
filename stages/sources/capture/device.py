"""What every camera looks like to the feed that reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pipeline.types import Pixels

__all__ = ["Arrival", "Device", "is_url", "numbered"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A picture has come; `Device.retrieve` brings it."""

    arrived_ns: int
    """By this machine's wall clock, ns since the Unix epoch."""
    pts_ns: int | None
    """By the stream's own clock; None where it has none."""


class Device(Protocol):
    """One camera. All calls come from one thread at a time."""

    name: str
    """For people, without passwords."""

    def open(self) -> None:
        """Get ready. Raises SourceError with one sentence."""

    def grab(self) -> Arrival | None:
        """Wait for the next picture; None where something came that is no picture yet.

        Raises SourceError where nothing comes, or nothing can come any more.
        """

    def retrieve(self) -> Callable[[], Pixels]:
        """The picture that was grabbed last; what is returned converts it, later and in any thread."""

    def settle(self) -> str | None:
        """The warm-up is over. Returns what could not be done, as a sentence."""

    def close(self) -> None:
        """Let go; may be called at any time, also twice."""


def is_url(device: int | str) -> bool:
    """Whether this names a camera of the network."""
    return isinstance(device, str) and "://" in device


def numbered(device: int | str) -> int | str:
    """What names a camera; the number of one is often given as text, on a command line for instance."""
    return int(device) if isinstance(device, str) and device.isascii() and device.isdecimal() else device
