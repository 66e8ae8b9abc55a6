"""Events over real sockets: everything first, then news; pages that are slow, gone or too many."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pipeline.clock import SystemClock
from pipeline.dashboard import events
from pipeline.dashboard.events import Events, event

PAGES: list[Page] = []


class Source:
    """What pages are told; `urgent` once makes the next look tell at once."""

    def __init__(self, size: int = 10) -> None:
        self.count, self.size, self.urgent, self.broken = 0, size, False, False

    def whole(self) -> dict:
        return {"count": self.count, "all": "x" * self.size}

    def news(self) -> dict:
        if self.broken:
            raise RuntimeError("a mistake")
        self.count += 1
        return {"count": self.count}

    def changed(self) -> bool:
        urgent, self.urgent = self.urgent, False
        return urgent


@pytest.fixture(autouse=True)
def no_page_stays_open() -> Iterator[None]:
    """Close the far ends of all pages of a test."""
    yield
    while PAGES:
        PAGES.pop().far.close()


@contextmanager
def serving(source: Source) -> Iterator[Events]:
    running = Events(source.whole, source.news, source.changed, SystemClock(), logging.Logger("alone"))
    running.start()
    try:
        yield running
    finally:
        running.stop()


class Page:
    """The other end of a connection."""

    def __init__(self, running: Events, receive_bytes: int | None = None) -> None:
        near, self.far = socket.socketpair()
        if receive_bytes:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, receive_bytes)
            self.far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.far.settimeout(10)
        PAGES.append(self)
        self.taken = running.adopt(near)
        self._rest = b""
        if not self.taken:
            near.close()

    def next(self) -> tuple[str, dict]:
        while b"\n\n" not in self._rest:
            try:
                data = self.far.recv(65536)
            except ConnectionResetError:  # closed with something unread
                data = b""
            if not data:
                return "closed", {}
            self._rest += data
        message, self._rest = self._rest.split(b"\n\n", 1)
        name, data = message.decode().split("\n")
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_page_gets_everything_then_news_then_the_end(monkeypatch):
    monkeypatch.setattr(events, "NEWS_NS", 50_000_000)
    with serving(Source()) as running:
        page = Page(running)
        name, first = page.next()
        assert name == "whole"
        assert [page.next() for _ in range(3)] == [("news", {"count": first["count"] + i}) for i in (1, 2, 3)]
        running.stop()  # once more at the end of the block, which must do nothing
        names = []
        while names[-1:] != ["closed"]:
            names.append(page.next()[0])
        assert names[-2:] == ["end", "closed"]
        assert set(names[:-2]) <= {"news"}


def test_what_cannot_wait_is_told_at_once():
    source = Source()
    with serving(source) as running:
        page = Page(running)
        page.next()
        begin = time.monotonic()
        source.urgent = True
        assert page.next()[0] == "news"
        assert time.monotonic() - begin < 0.9


def test_a_slow_page_keeps_one_message_and_gets_everything_when_it_has_read_that(monkeypatch):
    monkeypatch.setattr(events, "NEWS_NS", 20_000_000)
    source = Source(size=300_000)
    with serving(source) as running:
        slow, quick = Page(running, receive_bytes=4096), Page(running)
        begin = quick.next()[1]["count"]
        while quick.next()[1]["count"] < begin + 10:
            pass
        held = [len(page.waiting) for page in list(running._pages.values()) if page.waiting]
        assert 0 < max(held) < 300_100  # on a busy machine the quick page, too, may have something left to read
        name, stale = slow.next()
        assert name == "whole"
        name, fresh = slow.next()
        assert name == "whole"
        assert fresh["count"] >= stale["count"] + 9


def test_a_page_that_takes_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(events, "NEWS_NS", 20_000_000)
    monkeypatch.setattr(events, "STALLED_NS", 100_000_000)
    with serving(Source(size=3_000_000)) as running:
        Page(running, receive_bytes=4096)
        eventually(lambda: running.pages == 1)
        eventually(lambda: running.pages == 0)


def test_a_page_that_is_closed_makes_room_at_once():
    with serving(Source()) as running:
        pages = [Page(running) for _ in range(5)]
        assert [page.next()[0] for page in pages] == ["whole"] * 5
        pages[2].far.close()
        eventually(lambda: running.pages == 4)
        assert pages[3].next()[0] == "news"


def test_pages_beyond_the_cap_are_refused(monkeypatch):
    monkeypatch.setattr(events, "MAX_PAGES", 3)
    with serving(Source()) as running:
        assert [Page(running).taken for _ in range(5)] == [True] * 3 + [False] * 2


def test_a_page_that_talks_is_hung_up_on():
    with serving(Source()) as running:
        talking, quiet = Page(running), Page(running)
        assert talking.next()[0] == quiet.next()[0] == "whole"
        talking.far.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert talking.next()[0] == "closed"
        assert quiet.next()[0] == "news"


def test_a_mistake_in_what_is_told_ends_the_page_not_the_process(caplog):
    source = Source()
    with serving(source) as running:
        page = Page(running)
        page.next()
        source.broken = True
        assert page.next()[0] == "closed"
        assert not Page(running).taken


def test_text_cannot_end_a_message_before_its_time():
    assert event("x", {"name": "a\n\nevent: end\ndata: {}\n\n"}).count(b"\n\n") == 1


def test_numbers_that_json_does_not_know_are_a_mistake():
    with pytest.raises(ValueError, match="JSON"):
        event("x", {"a": float("nan")})
