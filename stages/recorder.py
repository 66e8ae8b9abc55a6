"""Jobs to recording files, in a thread of its own: a library of the stage `record`.

    put --> [ waiting jobs, bounded in bytes ] --> thread: pictures --> Writer --> NAME.mcap.part --> NAME.mcap

Where the bound is reached, a recorded source waits; with a live one the job is dropped from the recording, and counted
in it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

from pipeline.errors import SidecastError, StageError
from pipeline.metrics import Metrics
from pipeline.recording.foxglove import compressed_image
from pipeline.recording.layout import BITS, EVENTS, METRICS, PAIRS, PREVIEW, SIDE, STREAM, Pair, SideKey
from pipeline.recording.writer import Writer
from pipeline.types import Frame, Packet
from pipeline.wire import serialize
from stages.lossless import CODING_ID, pack

__all__ = ["Job", "Plan", "Recorder"]

METRICS_NS = 1_000_000_000
TICK_S = 0.25
PREVIEW_QUALITY = 80
PREVIEW_WIDTH_PX = 640

Attachments = Iterable[tuple[str, str, bytes]]


@dataclass(frozen=True, slots=True)
class Job:
    """A packet with all that is recorded of it."""

    packet: Packet
    pair: tuple[Frame | None, int] | None
    """The side frame that it was paired with, and its offset in ns; None where that is not known."""
    preview: Frame | None

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory."""
        side = self.pair[0] if self.pair else None
        pictures = [frame.pixels.nbytes for frame in (side, self.preview) if frame is not None]
        return len(self.packet.payload) + sum(pictures)


@dataclass(frozen=True)
class Plan:
    """What a recording is to be, and what it asks of its node."""

    path: Path
    store_side: bool
    max_bytes: int | None
    """Another file is begun before one grows beyond this."""
    buffer_bytes: int
    waits: bool
    """`put` waits for a slow disk; else the job is dropped."""
    attachments: Callable[[], Attachments]
    stream: Callable[[], dict[str, Any]]
    counters: Metrics
    """What the node exports; the recorder counts here too."""
    metrics: Callable[[], dict[str, float]]
    """The values of all that, to be recorded."""
    log: logging.Logger


class Recorder:
    """Writes jobs to one file after another, never over one that is there."""

    def __init__(self, plan: Plan) -> None:
        """Raises StageError where the first file cannot be made."""
        self._plan, self._log = plan, plan.log
        self._jobs: deque[Job] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._end: dict[str, Any] = {}
        self.files: list[Path] = []
        """What is finished."""
        self.packets = self.dropped = self.kept = self.cpu_ns = 0
        """Packets handed to the file, dropped before, and in finished files; processor time of the thread, ns."""
        self.failure: str | None = None
        """Why nothing more is recorded."""
        self._unsaid = 0
        self._writer: Writer | None = None
        self._last_side: SideKey | None = None
        self._open()
        self._thread = threading.Thread(target=self._run, name="record-writer", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        """The file that is written, as it is called when it is finished."""
        return self._path

    def put(self, job: Job, given_up: Callable[[], bool] = lambda: False) -> None:
        """Take a job; waits, or drops it, while too much waits already. `given_up` ends the waiting."""
        with self._changed:
            while self._is_full(job) and self._plan.waits and not given_up():
                self._changed.wait(TICK_S)
            if self._is_full(job) or self.failure:
                self._lack(1)
                self._unsaid += 1
                if self._unsaid == 1 and not self.failure:
                    self._log.warning("record: the disk is too slow, frame %d is not recorded", job.packet.frame_id)
                return
            self._jobs.append(job)
            self._waits(job.size)
            self._changed.notify_all()

    def close(self, **end: Any) -> None:
        """Write what waits and finish the file; `end` goes into its last message."""
        with self._changed:
            self._closing, self._end = True, end
            self._changed.notify_all()
        self._thread.join()

    def _is_full(self, job: Job) -> bool:
        """A single job may be larger than the whole buffer."""
        over = self._waiting_bytes + job.size > self._plan.buffer_bytes
        return over and bool(self._jobs) and self.failure is None

    def _waits(self, more_bytes: int) -> None:
        self._waiting_bytes += more_bytes
        self._plan.counters.recorder_waiting_bytes.set(self._waiting_bytes)

    def _lack(self, packets: int) -> None:
        self.dropped += packets
        self._plan.counters.unrecorded.inc(packets)

    # Everything below runs in the thread, but for the first `_open`.

    def _run(self) -> None:
        begin_ns = time.thread_time_ns()
        metrics_due_ns = time.monotonic_ns() + METRICS_NS
        while (job := self._next()) is not None or not self._closing:
            self._guarded(self._write, job) if job else self._guarded(self._flush_if_old)
            self._forget(job)
            self._count(self._writer)
            if time.monotonic_ns() >= metrics_due_ns:
                metrics_due_ns = time.monotonic_ns() + METRICS_NS
                self._guarded(self._write_metrics)
        self.cpu_ns = time.thread_time_ns() - begin_ns
        self._guarded(self._write_last)
        self.cpu_ns = time.thread_time_ns() - begin_ns

    def _next(self) -> Job | None:
        with self._changed:
            if not self._jobs and not self._closing:
                self._changed.wait(TICK_S)
            return self._jobs[0] if self._jobs else None

    def _forget(self, job: Job | None) -> None:
        """A job counts as waiting until it is written."""
        if job is None:
            return
        with self._changed:
            self._jobs.popleft()
            self._waits(-job.size)
            self._changed.notify_all()

    def _guarded(self, step: Callable[..., None], *args: Any) -> None:
        """Do something to the file; if that fails the recording ends, not the run."""
        if self.failure:
            self._lack(len(args))
            return
        try:
            step(*args)
        except (OSError, SidecastError) as error:
            self._lack(len(args))
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._fail(f"{self._part} cannot be written any more: {why}")

    def _write(self, job: Job) -> None:
        data = serialize(job.packet)
        self._rotate(len(data))
        writer, log_ns = self._writer, time.time_ns()
        if writer is None:
            return
        self._tell_drops()
        if job.pair is not None:
            self._write_pair(writer, job.packet, *job.pair, log_ns)
        writer.add(BITS, data, log_ns, job.packet.pts_ns)
        self.packets += 1
        self._plan.counters.recorded_packets.inc()
        if job.preview is not None:
            writer.add(PREVIEW, _preview(job.preview), log_ns, job.preview.pts_ns)
        writer.flush_if_old()

    def _write_pair(self, writer: Writer, packet: Packet, side: Frame | None, offset_ns: int, log_ns: int) -> None:
        key = None if side is None else SideKey.of(side)
        if side is not None and self._plan.store_side and key != self._last_side:
            writer.add(SIDE, _side_bytes(side), log_ns, side.pts_ns)
            self._last_side = key
        stored = side is not None and self._plan.store_side
        note = Pair(packet.frame_id, packet.stream_id, packet.sequence, key, offset_ns, stored)
        writer.add(PAIRS, note.to_json(), log_ns, packet.pts_ns)

    def _flush_if_old(self) -> None:
        if self._writer:
            self._writer.flush_if_old()

    def _write_last(self) -> None:
        self._tell_drops()
        self._tell(STREAM, self._plan.stream())
        self._finish(**self._end)

    def _write_metrics(self) -> None:
        self._tell(METRICS, self._plan.metrics())

    def _tell_drops(self) -> None:
        with self._changed:
            unsaid, self._unsaid = self._unsaid, 0
        if unsaid:
            self._tell(EVENTS, {"event": "dropped", "packets": unsaid})
            self._log.warning("record: %d packets were not recorded, the disk was too slow", unsaid)

    def _tell(self, channel: int, message: dict[str, Any]) -> None:
        if self._writer:
            self._writer.add(channel, json.dumps(message).encode(), time.time_ns())

    def _rotate(self, coming: int) -> None:
        limit, writer = self._plan.max_bytes, self._writer
        if limit is None or writer is None or writer.size + coming <= limit or self._packets_before == self.packets:
            return
        self._finish(continues=True)
        self._open()

    def _open(self) -> None:
        """Begin the next file. Raises StageError."""
        self._path = _free_name(self._plan.path)
        self._part = self._path.with_name(f"{self._path.name}.part")
        self._last_side = None
        self._counted_bytes = 0
        self._packets_before, self._dropped_before = self.packets, self.dropped
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file: RawIOBase = self._part.open("xb", buffering=0)
            self._writer = Writer(self._file, self._plan.attachments(), now_ns=time.time_ns())
        except OSError as error:
            raise StageError("record", None, f"{self._part} cannot be written: {error.strerror or error}") from error
        self._plan.counters.recorder_up.set(1)
        self._tell(STREAM, self._plan.stream())
        self._log.info("recording to %s", self._path)

    def _count(self, writer: Writer | None) -> None:
        """Count by how much the file has grown."""
        if writer is not None and writer.size > self._counted_bytes:
            self._plan.counters.recorded_bytes.inc(writer.size - self._counted_bytes)
            self._counted_bytes = writer.size

    def _finish(self, **end: Any) -> None:
        """End the file and give it its name."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.finish(lambda: self._end_event(writer, end))
        finally:
            self._file.close()
        self._part.replace(self._path)
        self.kept += writer.counts[BITS]
        self._count(writer)
        self.files.append(self._path)

    def _end_event(self, writer: Writer, end: dict[str, Any]) -> bytes:
        """The last message; asked again when chunks had to give way to it."""
        kept = writer.counts[BITS]
        dropped = self.dropped - self._dropped_before + self.packets - self._packets_before - kept
        event = {"event": "end", "packets": kept, "dropped": dropped, "cpu_s": self.cpu_ns / 1e9, **end}
        return json.dumps(event).encode()

    def _fail(self, sentence: str) -> None:
        """The recording ends here, cleanly if that is possible."""
        with self._changed:
            self.failure = sentence
            self._plan.counters.recorder_up.set(0)
            self._changed.notify_all()
        self._log.error("record: %s; the recording ends here", sentence)
        try:
            self._finish(complete=False, why=sentence)
        except OSError:
            self._log.error("record: %s is left as it is, `sidecast repair` makes it whole", self._part)


def _free_name(path: Path) -> Path:
    """`path`, or `STEM_0002.mcap` and so on: what was recorded once is not written over."""
    candidate, number = path, 1
    while candidate.exists() or candidate.with_name(f"{candidate.name}.part").exists():
        number += 1
        candidate = path.with_name(f"{path.stem}_{number:04d}{path.suffix}")
    return candidate


def _side_bytes(side: Frame) -> bytes:
    """A side frame as the FRAME message that carries it without loss."""
    return serialize(
        Packet(
            frame_id=side.frame_id,
            view=side.view,
            role="side",
            pts_ns=side.pts_ns,
            taken_ns=side.taken_ns,
            model_id=CODING_ID,
            width=side.width,
            height=side.height,
            quality=0.0,
            payload=pack(side.pixels),
        )
    )


def _preview(frame: Frame) -> bytes:
    from stages.picture import encode_jpeg, resize

    width = min(frame.width, PREVIEW_WIDTH_PX)
    small = resize(frame.pixels, (width, max(1, round(frame.height * width / frame.width))))
    return compressed_image(encode_jpeg(small, PREVIEW_QUALITY), frame.pts_ns, f"{frame.view} ({frame.role})")
