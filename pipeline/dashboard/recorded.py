"""One recording as a stream of the page: all of it at once, and pictures of single frames when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.dashboard import figures
from pipeline.dashboard.history import levels_for
from pipeline.dashboard.light import Light
from pipeline.dashboard.live import FRAMES_SHOWN, LiveStream
from pipeline.dashboard.pictures import Composite
from pipeline.dashboard.tally import Tally
from pipeline.errors import SourceError
from pipeline.ledger import OUT, Row
from pipeline.recording.index import Entry, Index, open_index
from pipeline.stage import Context
from pipeline.types import Packet, Role
from pipeline.wire import HEADER_BYTES

__all__ = ["RecordedStream"]

MS = 1e6
MOST_PICTURES = 2000
"""Packets that a picture can be asked of, chosen evenly."""


class RecordedStream(LiveStream):
    """The primary packets of a recording, in the figures of a stream that runs; its memory does not grow with it."""

    def __init__(self, files: Sequence[Path], title: str, draw: Callable[[Entry], Composite]) -> None:
        """`draw` makes the picture of a packet; it raises SidecastError where that is impossible.

        Raises SourceError where there is no recording, or no packet of a primary view in it.
        """
        super().__init__(Context("recording", Path()), relay=False, sends=False, title=figures.shown(title))
        self._draw = draw
        stamps = _Stamps()
        self._index = open_index(files, stamps.see)
        if not stamps.count:
            raise SourceError(f"{title} has no packet of a primary view")
        self.tally = Tally(levels_for(stamps.last_ns - stamps.first_ns), None)
        self._frames = 0
        self._bytes: Counter[Role] = Counter()
        self._entries: list[Entry] = []
        self._shown: list[list[float | str | None]] = []
        self._fill(stamps.count)

    def _fill(self, count: int) -> None:
        """Read the files again, now that it is known how much there is."""
        for entry in self._index.entries():
            self._bytes[entry.packet.role] += HEADER_BYTES + entry.payload_bytes
            if entry.packet.role != "primary":
                continue
            row = _row(self._frames, entry)
            self.tally.take(row)
            if self._frames % -(-count // FRAMES_SHOWN) == 0:
                self._shown.append(figures.frame(row, self.tally.axis.newest_ns))
            if self._frames % -(-count // MOST_PICTURES) == 0:
                self._entries.append(entry)
            self._frames += 1
        self._context.facts.update(_facts(self._index, self._entries[0].packet), clock="recorded")
        self.turn(0)
        self.news()  # the first page gets all of it, and nothing changes any more

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
        return {**super().whole(), "frames": self._shown, "pictures": len(self._entries)}

    def _counts(self) -> Counter[str]:
        return Counter({OUT: self._frames})

    def _state(self) -> dict[str, Any]:
        state, seconds, light = super()._state(), self.tally.seconds(), self.light()
        names = ("kbps", "bpp", "ratio", "psnr_db", "ms_ssim")
        now = {**dict.fromkeys(state["now"]), **{name: state["run"][name] for name in names}}
        now["capture_fps"] = self._frames / seconds if seconds else None
        sides = {"side_bytes": self._bytes["side"], "reference_bytes": self._bytes["reference"]}
        told = {"colour": light.colour, "word": light.word, "sentence": light.sentence}
        return {**state, "light": told, "now": now, "span": "whole recording", "run": {**state["run"], **sides}}


class _Stamps:
    """The first and the last capture time of the primary packets, and how many there are."""

    def __init__(self) -> None:
        self.count = self.first_ns = self.last_ns = 0

    def see(self, entry: Entry) -> None:
        """Called with every packet."""
        if entry.packet.role != "primary":
            return
        pts_ns = entry.packet.pts_ns
        self.first_ns = min(self.first_ns, pts_ns) if self.count else pts_ns
        self.last_ns = max(self.last_ns, pts_ns) if self.count else pts_ns
        self.count += 1


def _facts(index: Index, first: Packet) -> dict[str, Any]:
    size = {"width": first.width, "height": first.height, "quality": first.quality}
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
