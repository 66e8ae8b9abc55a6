"""The bounded queue between two stages: one thread puts, one thread takes, nobody polls.

block    `put` waits while the channel is full: back-pressure
latest   `put` never waits: the oldest group of items that waits makes room, and is reported as dropped
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Literal, TypeVar

__all__ = ["Aborted", "Channel", "Policy"]

T = TypeVar("T")

Policy = Literal["block", "latest"]


class Aborted(Exception):  # noqa: N818 - not an error of this thread: another one ended the chain
    """The chain has been ended; what waited in the channel is gone."""


class Channel(Generic[T]):
    """Items in order, at most `capacity` of them waiting."""

    def __init__(
        self,
        capacity: int = 2,
        policy: Policy = "block",
        dropped: Callable[[T], None] = lambda item: None,
        group: Callable[[T], Hashable] = id,
    ) -> None:
        """`latest` counts and drops by `group`: the two views of one moment stay together or go together.

        `dropped` is called for each item that `latest` gives up, in the thread that puts.
        """
        if capacity < 1:
            raise ValueError(f"a channel holds at least one item, got a capacity of {capacity}")
        self.capacity, self.policy = capacity, policy
        self._dropped, self._group = dropped, group
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._aborted = False
        self._wanted = False
        self._taken: Hashable = object()
        self._gone: Hashable = object()

    @property
    def depth(self) -> int:
        """Items that wait."""
        return len(self._items)

    def put(self, item: T) -> None:
        """Add an item; raises Aborted once the chain has been ended."""
        if self.policy == "latest":
            self._put_latest(item)
            return
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or len(self._items) < self.capacity)
            self._append(item)

    def wait_until_wanted(self) -> None:
        """Return once whoever takes is done with all that was put and waits for more; raises Aborted."""
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or (self._wanted and not self._items))
            self._check()

    def close(self) -> None:
        """Nothing more will be put; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Throw away what waits, and end both sides with Aborted."""
        with self._changed:
            self._aborted = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """The items as they come, until the channel is closed and empty. Raises Aborted."""
        while True:
            with self._changed:
                self._wanted = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._aborted or self._items or self._closed)
                self._wanted = False
                self._check()
                if not self._items:
                    return
                item = self._items.popleft()
                self._taken = self._group(item)
                self._changed.notify_all()
            yield item

    def _put_latest(self, item: T) -> None:
        with self._changed:
            if self._group(item) == self._gone:
                given_up = [item]
            else:
                given_up = self._make_room(self._group(item))
                self._append(item)
        for old in given_up:
            self._dropped(old)

    def _make_room(self, group: Hashable) -> list[T]:
        """Take out the oldest group if a new one has no room; a group of which a part is through already stays."""
        waiting = list(dict.fromkeys(map(self._group, self._items)))
        loose = [key for key in waiting if key != self._taken]
        if group in waiting or group == self._taken or len(loose) < self.capacity:
            return []
        self._gone = loose[0]
        given_up = [item for item in self._items if self._group(item) == self._gone]
        self._items = deque(item for item in self._items if self._group(item) != self._gone)
        return given_up

    def _append(self, item: T) -> None:
        self._check()
        if self._closed:
            raise RuntimeError("an item was put into a channel that is closed")
        self._items.append(item)
        self._changed.notify_all()

    def _check(self) -> None:
        if self._aborted:
            raise Aborted
