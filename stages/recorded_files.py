"""The files of a recording, one after another: a library of the stage `record`, for one thread.

NAME.mcap.part --> NAME.mcap, then NAME_0002.mcap.part --> NAME_0002.mcap, ...    never over one that is there
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from pipeline.metrics import Metrics
from pipeline.recording.layout import BITS, STREAM
from pipeline.recording.writer import Writer

__all__ = ["Plan", "RecordedFiles"]

Attachments = Iterable[tuple[str, str, bytes]]


@dataclass(frozen=True)
class Plan:
    """What a recording is to be, and what it asks of its node."""

    path: Path
    store_side: bool
    max_bytes: int | None
    """Another file is begun before one grows beyond this."""
    buffer_bytes: int
    waits: bool
    """A slow disk is waited for; else packets are dropped."""
    attachments: Callable[[], Attachments]
    stream: Callable[[], dict[str, Any]]
    counters: Metrics
    """What the node exports; the recorder counts here too."""
    metrics: Callable[[], dict[str, float]]
    """The values of all that, to be recorded."""
    log: logging.Logger


class RecordedFiles:
    """Messages to the file that is being written; every method but `path` and `part` may raise OSError."""

    def __init__(self, plan: Plan, dropped: Callable[[], int]) -> None:
        """`dropped`: packets that were never handed over, so far. Raises StageError where no file can be made."""
        self._plan, self._dropped = plan, dropped
        self.finished: list[Path] = []
        self.packets = self.kept = 0
        """Packets handed over, and in finished files."""
        self._writer: Writer | None = None
        self._number = 0
        self._counted_bytes = self._packets_before = self._dropped_before = 0
        self._open()

    @property
    def path(self) -> Path:
        """The file that is written, as it is called when it is finished."""
        return self._path

    @property
    def part(self) -> Path:
        """What it is called until then."""
        return self._path.with_name(f"{self._path.name}.part")

    def make_room(self, coming: int) -> bool:
        """Whether another file was begun, because so many bytes do not fit into this one. Raises StageError too."""
        limit, writer = self._plan.max_bytes, self._writer
        if limit is None or writer is None or writer.size + coming <= limit or self._packets_before == self.packets:
            return False
        self.finish(continues=True)
        self._open()
        return True

    def add(self, channel: int, data: bytes, log_ns: int, publish_ns: int, *, head: bytes = b"") -> None:
        """Write a message, `head` and `data`."""
        if self._writer is not None:
            self._writer.add(channel, data, log_ns, publish_ns, head=head)
            self.packets += channel == BITS

    def tell(self, channel: int, message: dict[str, Any]) -> None:
        """Write a message of this moment as JSON."""
        self.add(channel, json.dumps(message).encode(), time.time_ns(), 0)

    def flush_if_old(self) -> None:
        """Write a chunk that has waited for a second."""
        if self._writer is not None:
            self._writer.flush_if_old()

    def count(self) -> None:
        """Tell the node by how much the file has grown."""
        if self._writer is not None and self._writer.size > self._counted_bytes:
            self._plan.counters.recorded_bytes.inc(self._writer.size - self._counted_bytes)
            self._counted_bytes = self._writer.size

    def finish(self, **end: Any) -> None:
        """End the file and give it its name; `end` goes into its last message."""
        writer = self._writer
        if writer is None:
            return
        try:
            writer.finish(lambda: self._end_event(writer, end))
            self.count()
        finally:
            self._writer = None
            self._file.close()
        self.part.replace(self._path)
        self.kept += writer.counts[BITS]
        self.finished.append(self._path)

    def _open(self) -> None:
        self._path = _free_name(self._plan.path)
        self._counted_bytes = 0
        self._packets_before, self._dropped_before = self.packets, self._dropped()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._begun()
        except OSError as error:
            raise StageError("record", None, f"{self.part} cannot be written: {error.strerror or error}") from error
        self._plan.counters.recorder_up.set(1)
        self._number += 1
        self.tell(STREAM, {**self._plan.stream(), "file": self._number})
        self._plan.log.info("recording to %s", self._path)

    def _begun(self) -> Writer:
        """The writer of a new file; nothing is left of one that could not even be begun."""
        self._file: RawIOBase = self.part.open("xb", buffering=0)
        try:
            return Writer(self._file, self._plan.attachments(), now_ns=time.time_ns())
        except OSError:
            self._file.close()
            self.part.unlink()
            raise

    def _end_event(self, writer: Writer, end: dict[str, Any]) -> bytes:
        """The last message; asked again when chunks had to give way to it."""
        kept = writer.counts[BITS]
        dropped = self._dropped() - self._dropped_before + self.packets - self._packets_before - kept
        return json.dumps({"event": "end", "packets": kept, "dropped": dropped, **end}).encode()


def _free_name(path: Path) -> Path:
    """`path`, or `STEM_0002.mcap` and so on: what was recorded once is not written over."""
    candidate, number = path, 1
    while candidate.exists() or candidate.with_name(f"{candidate.name}.part").exists():
        number += 1
        candidate = path.with_name(f"{path.stem}_{number:04d}{path.suffix}")
    return candidate
