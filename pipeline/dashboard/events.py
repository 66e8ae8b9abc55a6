"""Server-sent events to every open page, from one thread that never waits for any of them.

A page gets everything when it comes and news each second. One that reads too slowly misses news, and gets everything
again once it has read what it has: at most one message per page is kept.
"""

from __future__ import annotations

import contextlib
import json
import logging
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from pipeline.clock import Clock
from pipeline.wakeup import Wakeup

__all__ = ["MAX_PAGES", "Events", "event"]

MAX_PAGES = 100
NEWS_NS = 1_000_000_000
LOOK_S = 0.25
"""How often the light is looked at between news."""
STALLED_NS = 30_000_000_000
FAREWELL_S = 1.0
RECONNECT_MS = 1000


def event(name: str, data: Any) -> bytes:
    """One server-sent event. Raises ValueError for numbers that JSON does not know."""
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False, separators=(',', ':'))}\n\n".encode()


class _Page:
    """One open page."""

    def __init__(self, connection: socket.socket, now_ns: int) -> None:
        self.connection = connection
        self.waiting = b""
        self.behind = True
        """It has missed something and needs everything."""
        self.moved_ns = now_ns

    def give(self, message: bytes) -> None:
        """Send this next; only while nothing waits."""
        self.waiting = message

    def push(self, now_ns: int) -> bool:
        """Hand over what the connection takes; False where it is gone."""
        try:
            while self.waiting:
                sent = self.connection.send(self.waiting)
                self.waiting, self.moved_ns = self.waiting[sent:], now_ns
        except BlockingIOError:
            return now_ns - self.moved_ns < STALLED_NS
        except OSError:
            return False
        return True


class Events:
    """The thread that tells pages; `whole`, `news` and `changed` are called from it."""

    def __init__(
        self,
        whole: Callable[[], dict[str, Any]],
        news: Callable[[], dict[str, Any]],
        changed: Callable[[], bool],
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        """`news` is called each second, and at once when `changed` says that something can't wait."""
        self._log = log
        self._whole, self._news, self._changed, self._clock = whole, news, changed, clock
        self._arrivals: deque[socket.socket] = deque()
        self._pages: dict[int, _Page] = {}
        self._lock = threading.Lock()
        self._wakeup: Wakeup
        self._selector: selectors.BaseSelector
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)

    def start(self) -> None:
        """Begin; also without any page, so that there is a history when one is opened."""
        self._wakeup, self._selector = Wakeup(), selectors.DefaultSelector()
        self._selector.register(self._wakeup.fileno(), selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Tell every page how it ended, and close."""
        self._ending = True
        with contextlib.suppress(OSError):  # it has ended already
            self._wakeup.ring()
        self._thread.join()

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return len(self._pages) + len(self._arrivals)

    def adopt(self, connection: socket.socket) -> bool:
        """Take over the connection of a page, whose headers have been sent; False if there are too many already."""
        with self._lock:
            if self.pages >= MAX_PAGES or self._ending:
                return False
            connection.setblocking(False)
            self._arrivals.append(connection)
            self._wakeup.ring()
        return True

    # Everything below runs in the thread.

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a page, the video must go on
            self._log.warning("the dashboard has broken down: %s: %s", type(error).__name__, error)
            self._log.debug("", exc_info=True)
        finally:
            self._part()

    def _serve(self) -> None:
        due_ns = self._clock.monotonic_ns()
        while not self._ending:
            self._wait(max(0.0, min(LOOK_S, (due_ns - self._clock.monotonic_ns()) / 1e9)))
            now_ns = self._clock.monotonic_ns()
            if now_ns >= due_ns or self._changed():
                due_ns = max(due_ns + NEWS_NS, now_ns) if now_ns >= due_ns else due_ns
                self._tell("news", now_ns)
            self._welcome(now_ns)
        self._tell("end", self._clock.monotonic_ns())

    def _wait(self, seconds: float) -> None:
        for key, ready in self._selector.select(seconds):
            page = key.data
            if page is None:
                self._wakeup.clear()
            elif ready & selectors.EVENT_READ or not self._push(page):
                self._drop(page)  # a page says nothing: what can be read is its end, or nonsense

    def _welcome(self, now_ns: int) -> None:
        """Everything for those who have just come, and for those who were behind and have read what they had."""
        while self._arrivals:
            page = _Page(self._arrivals.popleft(), now_ns)
            self._pages[page.connection.fileno()] = page
            self._selector.register(page.connection, selectors.EVENT_READ, page)
        waiting = [page for page in self._pages.values() if page.behind and not page.waiting]
        message = event("whole", self._whole()) if waiting else b""
        for page in waiting:
            page.behind = False
            page.give(message)
            if not self._push(page):
                self._drop(page)

    def _tell(self, name: str, now_ns: int) -> None:
        message = event(name, self._news())
        for page in list(self._pages.values()):
            if page.waiting or page.behind:
                page.behind = True
            else:
                page.give(message)
            if not self._push(page):
                self._drop(page)

    def _push(self, page: _Page) -> bool:
        alive = page.push(self._clock.monotonic_ns())
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if page.waiting else 0)
        if alive and self._selector.get_key(page.connection).events != wanted:
            self._selector.modify(page.connection, wanted, page)
        return alive

    def _drop(self, page: _Page) -> None:
        self._selector.unregister(page.connection)
        self._pages.pop(page.connection.fileno(), None)
        _close(page.connection)

    def _part(self) -> None:
        """Let the last words go out, but not for longer than a moment."""
        with self._lock:
            self._ending = True  # nobody is adopted from here on
        until_ns = self._clock.monotonic_ns() + round(FAREWELL_S * 1e9)
        while any(page.waiting for page in self._pages.values()) and self._clock.monotonic_ns() < until_ns:
            self._wait(0.1)
        for page in list(self._pages.values()):
            self._drop(page)
        while self._arrivals:
            _close(self._arrivals.popleft())
        self._selector.close()
        with self._lock:
            self._wakeup.close()


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
