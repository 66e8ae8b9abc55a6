"""The picture of a stream for its page: one JPEG of all that there is to compare, made as often as it may cost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.types import Decoded, Item, picture_of

__all__ = ["Compose", "Composite", "Pictures", "Tile"]

EVERY_NS = 1_000_000_000
KEPT = 3
"""Pictures that a page can still fetch when it is late."""
SHARE = 0.003
"""Of the node's processor time, at most, for pictures; one that takes longer is followed by a longer pause."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture in the JPEG."""

    name: str
    """`decoded`, `original`, `side`, `without`, `error` or `error_without`."""
    title: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Composite:
    """A JPEG that holds several pictures of one moment."""

    jpeg: bytes
    tiles: tuple[Tile, ...]
    frame_id: int

    def described(self) -> dict[str, Any]:
        """What it shows, ready for JSON."""
        return {"frame_id": self.frame_id, "tiles": [asdict(tile) for tile in self.tiles]}


Compose = Callable[[Item], Composite]


class Pictures:
    """Keeps the newest items that can be shown and makes a picture of them now and then.

    An item that was decoded without the side view too is shown rather than a newer one that was not, once.
    """

    def __init__(self, compose: Compose) -> None:
        self._compose = compose
        self._lock = threading.Lock()
        self._items: dict[str, Item] = {}
        self._made: deque[Composite] = deque(maxlen=KEPT)
        self._number = 0
        self._spent_ns = self._due_ns = 0
        self._base_ns = time.process_time_ns()

    def offer(self, item: Item) -> None:
        """Something that may be shown has passed; called by the stages' threads, costs nothing."""
        if picture_of(item) is None:
            return
        kind = "decoded" if isinstance(item, Decoded) else "frame"
        with self._lock:
            self._items[kind] = item
            if isinstance(item, Decoded) and item.without_side is not None:
                self._items["compared"] = item

    def turn(self, now_ns: int) -> bool:
        """Make a new picture if one is due; True if there is one."""
        if now_ns < self._due_ns or not self._items:
            return False
        if self._spent_ns > SHARE * (time.process_time_ns() - self._base_ns):
            self._due_ns = now_ns + EVERY_NS // 2
            return False
        item = self._next()
        if item is None:
            return False
        begin_ns = time.thread_time_ns()
        composite = self._compose(item)
        self._spent_ns += time.thread_time_ns() - begin_ns
        self._due_ns = now_ns + EVERY_NS
        with self._lock:
            self._made.append(composite)
            self._number += 1
        return True

    @property
    def number(self) -> int | None:
        """Which one is the newest, counted from 1."""
        return self._number or None

    def picture(self, number: int) -> Composite | None:
        """The picture of that number; None where it is gone by now or never was."""
        with self._lock:
            age = self._number - number
            return self._made[-1 - age] if 0 <= age < len(self._made) else None

    def _next(self) -> Item | None:
        with self._lock:
            item = self._items.get("compared") or self._items.get("decoded") or self._items.get("frame")
            self._items.clear()
            return item
