"""One recording as a stream of the page: all of it at once, and pictures of single frames when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.dashboard import figures
from pipeline.dashboard.history import History, levels_for
from pipeline.dashboard.light import Light
from pipeline.dashboard.live import FRAMES_SHOWN, LiveStream
from pipeline.dashboard.pictures import Composite
from pipeline.ledger import Row
from pipeline.recording.index import Entry, Index
from pipeline.stage import Context
from pipeline.wire import HEADER_BYTES

__all__ = ["RecordedStream"]

MS = 1e6


class RecordedStream(LiveStream):
    """The primary packets of a recording, in the figures of a stream that runs."""

    def __init__(self, index: Index, title: str, draw: Callable[[Entry], Composite]) -> None:
        """`draw` makes the picture of a packet; it raises SidecastError where that is impossible."""
        context = Context("recording", Path())
        super().__init__(context, relay=False, sends=False, title=figures.shown(title))
        self._index, self._draw, self._entries = index, draw, index.primaries
        context.facts.update(_facts(index), clock="recorded")
        stamps = [entry.packet.pts_ns for entry in self._entries] or [0]
        self.history = History(levels_for(max(stamps) - min(stamps)), figures.FIELDS)
        self._shown: list[list[float | str | None]] = []
        self._fill()

    def _fill(self) -> None:
        every, ledger = max(1, len(self._entries) // FRAMES_SHOWN), self._context.ledger
        for number, entry in enumerate(self._entries):
            row = _row(number, entry)
            ledger.frame_in(number, row.pts_ns)
            ledger.note(number, **row.values)
            ledger.frame_out(number)
            self._drain()
            if number % every == 0:
                self._shown.append(figures.frame(row, self._axis.newest_ns))
        self.turn(0)

    def light(self) -> Light:
        """Whether all is there that was recorded."""
        if not self._index.shortcomings:
            return Light("off", "Recording", "All is there that was recorded.")
        return Light("amber", "Incomplete", figures.shown("; ".join(self._index.shortcomings), 300))

    def picture(self, number: int) -> Composite | None:
        """The frame of that place in the recording, decoded now."""
        return self._draw(self._entries[number]) if number < len(self._entries) else None

    def whole(self) -> dict[str, Any]:
        """Everything; of the frames an even choice."""
        return {**super().whole(), "frames": self._shown[:FRAMES_SHOWN], "pictures": len(self._entries)}

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        names = ("kbps", "bpp", "ratio", "psnr_db", "ms_ssim")
        now = {**state["now"], **{name: state["run"][name] for name in names}, "age_p95_ms": None, "fps": None}
        seconds = self._seconds()
        now["capture_fps"] = len(self._entries) / seconds if seconds else None
        return {**state, "now": now, "span": "whole recording", "run": {**state["run"], **self._side()}}

    def _side(self) -> dict[str, int]:
        sides = [HEADER_BYTES + e.payload_bytes for e in self._index.entries if e.packet.role == "side"]
        references = [HEADER_BYTES + e.payload_bytes for e in self._index.entries if e.packet.role == "reference"]
        return {"side_bytes": sum(sides), "reference_bytes": sum(references)}


def _facts(index: Index) -> dict[str, Any]:
    first = next((entry.packet for entry in index.primaries), None)
    size = {} if first is None else {"width": first.width, "height": first.height, "quality": first.quality}
    return {name: index.stream.get(name) for name in ("model", "device", "encode_device")} | size


def _row(number: int, entry: Entry) -> Row:
    packet, pixels = entry.packet, entry.packet.width * entry.packet.height
    values: dict[str, float] = {"payload_bytes": entry.payload_bytes, "wire_bytes": HEADER_BYTES + entry.payload_bytes}
    if pixels:
        values["bpp"] = 8 * entry.payload_bytes / pixels
    if entry.pair is not None and entry.pair.side is not None:
        values["side_offset_ms"] = entry.pair.offset_ns / MS
    elif entry.pair is not None:
        values["unpaired"] = 1.0
    return Row(number, packet.pts_ns, "out", values, number)
