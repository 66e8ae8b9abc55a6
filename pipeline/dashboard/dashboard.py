"""What is served below /dashboard, for any kind of stream."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata, resources
from typing import Any, Literal, Protocol

from pipeline.dashboard.events import MAX_PAGES, Events, event
from pipeline.dashboard.figures import shown
from pipeline.dashboard.light import Light
from pipeline.dashboard.pictures import Composite
from pipeline.errors import SidecastError
from pipeline.stage import Context

__all__ = ["ROOT", "Answer", "Dashboard", "Stream"]

ROOT = "/dashboard"
FILES = {
    "": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/stream.js": ("stream.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/pictures.js": ("pictures.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
PICTURE = re.compile(r"/pictures/(\d{1,4})/(\d{1,9})\.jpg")
TOO_MANY = f"{MAX_PAGES} pages of this dashboard are open already: close one, and this page goes on by itself."

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

DESCRIPTION = "Sidecast-Picture"
"""The header that says what a picture shows."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is at a path."""

    status: int
    kind: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Stream(Protocol):
    """What a page shows in one column."""

    title: str

    def turn(self, now_ns: int) -> None:
        """Take in what has happened; called about once a second, whether or not a page is open."""

    def look(self, now_ns: int) -> bool:
        """Do what can't wait for a turn; True if pages should hear at once. Called while pages are open."""

    def end(self) -> None:
        """The run is over."""

    def light(self) -> Light:
        """The traffic light as it stands now."""

    def whole(self) -> dict[str, Any]:
        """Everything, ready for JSON."""

    def news(self) -> dict[str, Any]:
        """What has changed since the last news."""

    def picture(self, number: int) -> Composite | None:
        """A picture that an event has told of; None where it is gone. Raises SidecastError where it can't be made."""


class Dashboard:
    """The page of one node or of some recordings."""

    def __init__(
        self, context: Context, streams: Sequence[Stream], kind: Literal["live", "recording"] = "live"
    ) -> None:
        self._node, self._streams, self._clock, self._kind = context.node, streams, context.clock, kind
        self._lights: list[Light] = []
        self._events = Events(self._whole, self._news, self._changed, context.clock, context.log)
        self.cpu_ns = 0
        """Processor time that the streams, their pictures and the telling of them have cost."""

    def start(self) -> None:
        """Begin to keep a history."""
        self._events.start()

    def stop(self) -> None:
        """Tell every page how it ended."""
        for stream in self._streams:
            stream.end()
        self._events.stop()

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return self._events.pages

    def answer(self, path: str) -> Answer | None:
        """What is at a path below ROOT, except the events; None where nothing is."""
        if path in FILES:
            name, kind = FILES[path]
            return Answer(200, kind, _file(name))
        match = PICTURE.fullmatch(path)
        if match is None or int(match[1]) >= len(self._streams):
            return None
        try:
            picture = self._streams[int(match[1])].picture(int(match[2]))
        except SidecastError as error:
            return Answer(200, "text/plain; charset=utf-8", shown(error, 300).encode())
        if picture is None:
            return Answer(204, "image/jpeg", b"")
        return Answer(200, "image/jpeg", picture.jpeg, {DESCRIPTION: json.dumps(picture.described())})

    def adopt(self, connection: socket.socket) -> bytes | None:
        """Send events on this connection from now on; where there are too many, what to say before hanging up."""
        if self._events.adopt(connection):
            return None
        return b"retry: 10000\n" + event("refused", {"sentence": TOO_MANY})

    # What follows is called from the thread of the events.

    def _whole(self) -> dict[str, Any]:
        streams = [{**stream.whole(), "title": stream.title} for stream in self._streams]
        return {"node": self._node, "kind": self._kind, "version": metadata.version("sidecast"), "streams": streams}

    def _news(self) -> dict[str, Any]:
        for stream in self._streams:
            stream.turn(self._clock.monotonic_ns())
        self._lights = [stream.light() for stream in self._streams]
        told = {"streams": [stream.news() for stream in self._streams]}
        self.cpu_ns = time.thread_time_ns()
        return told

    def _changed(self) -> bool:
        if not self.pages:
            return False
        now_ns = self._clock.monotonic_ns()
        looks = [stream.look(now_ns) for stream in self._streams]  # every one of them, also behind one that is urgent
        return any(looks) or [stream.light() for stream in self._streams] != self._lights


@cache
def _file(name: str) -> bytes:
    return resources.files("pipeline.dashboard").joinpath(name).read_bytes()
