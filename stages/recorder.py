"""Jobs to recording files, in a thread of its own: a library of the stage `record`.

    put --> [ waiting jobs, bounded in bytes ] --> thread: pictures --> RecordedFiles

The thread wakes for several jobs at once, or after half a second: to wake for each costs a tenth more.
Where the bound is reached, a recorded source waits; with a live one the job is dropped from the recording, and counted
in it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SidecastError, StageError
from pipeline.recording.foxglove import compressed_image
from pipeline.recording.layout import BITS, EVENTS, METRICS, PAIRS, PREVIEW, SIDE, STREAM, Pair, SideKey
from pipeline.types import Frame, Packet
from pipeline.wire import serialize_parts
from stages.lossless import CODING_ID, Packer
from stages.recorded_files import Plan, RecordedFiles

__all__ = ["Job", "Recorder"]

METRICS_NS = 2_000_000_000
TICK_S = 0.5
"""For as long a job may wait for others."""
TOGETHER = 6
"""Jobs; and a part of the buffer, one in so many, that wakes the thread too."""
PREVIEW_QUALITY = 80
PREVIEW_WIDTH_PX = 480


@dataclass(frozen=True, slots=True)
class Job:
    """A packet with all that is recorded of it."""

    packet: Packet
    pair: tuple[Frame | None, int] | None
    """The side frame that it was paired with, and its offset in ns; None where that is not known."""
    preview: Frame | None

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory; in a file it has fewer."""
        side = self.pair[0] if self.pair else None
        pictures = [frame.pixels.nbytes for frame in (side, self.preview) if frame is not None]
        return len(self.packet.payload) + sum(pictures)


class Recorder:
    """Takes jobs and writes them behind the caller's back."""

    def __init__(self, plan: Plan) -> None:
        """Raises StageError where the first file cannot be made."""
        self._plan, self._log = plan, plan.log
        self._jobs: deque[Job] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._end: dict[str, Any] = {}
        self.dropped = self.cpu_ns = 0
        """Packets that were never handed to a file; processor time of the thread, ns."""
        self.failure: str | None = None
        """Why nothing more is recorded."""
        self._unsaid = 0
        self._packer = Packer()
        self._last_side: SideKey | None = None
        self._files = RecordedFiles(plan, lambda: self.dropped)
        self._thread = threading.Thread(target=self._run, name="record-writer", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        """The file that is written, as it is called when it is finished."""
        return self._files.path

    @property
    def finished(self) -> list[Path]:
        """The files that are finished."""
        return self._files.finished

    @property
    def kept(self) -> int:
        """Packets in finished files."""
        return self._files.kept

    @property
    def missing(self) -> int:
        """Packets that came and are not in finished files."""
        return self._files.packets + self.dropped - self._files.kept

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
            if len(self._jobs) >= TOGETHER or self._waiting_bytes * TOGETHER >= self._plan.buffer_bytes:
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

    # Everything below runs in the thread.

    def _run(self) -> None:
        begin_ns = time.thread_time_ns()
        metrics_due_ns = time.monotonic_ns() + METRICS_NS
        while (job := self._next()) is not None or not self._closing:
            if job is None:
                self._guard(self._files.flush_if_old)
            elif not self._guard(partial(self._write, job)):
                self._lack(1)
            self._forget(job)
            self._files.count()
            if time.monotonic_ns() >= metrics_due_ns:
                metrics_due_ns = time.monotonic_ns() + METRICS_NS
                self._guard(lambda: self._files.tell(METRICS, self._plan.metrics()))
        self.cpu_ns = time.thread_time_ns() - begin_ns
        self._guard(self._write_last)
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

    def _guard(self, step: Callable[[], None]) -> bool:
        """Do something to the file; if that fails the recording ends, not the run. False where it was not done."""
        if self.failure:
            return False
        try:
            step()
        except StageError as error:  # the next file could not be begun
            self._fail(error.cause)
        except (OSError, SidecastError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._fail(f"{self._files.part} cannot be written any more: {why}")
        return self.failure is None

    def _write(self, job: Job) -> None:
        if self._files.make_room(job.size):
            self._last_side = None
        self._tell_drops()
        log_ns = time.time_ns()
        if job.pair is not None:
            self._write_pair(job.packet, *job.pair, log_ns)
        self._write_packet(BITS, job.packet, log_ns)
        self._plan.counters.recorded_packets.inc()
        if job.preview is not None:
            self._files.add(PREVIEW, _preview(job.preview), log_ns, job.preview.pts_ns)
        self._files.flush_if_old()

    def _write_pair(self, packet: Packet, side: Frame | None, offset_ns: int, log_ns: int) -> None:
        key = None if side is None else SideKey.of(side)
        if side is not None and self._plan.store_side and key != self._last_side:
            self._write_packet(SIDE, self._side_packet(side), log_ns)
            self._last_side = key
        stored = side is not None and self._plan.store_side
        note = Pair(packet.frame_id, packet.stream_id, packet.sequence, key, offset_ns, stored)
        self._files.add(PAIRS, note.to_json(), log_ns, packet.pts_ns)

    def _write_packet(self, channel: int, packet: Packet, log_ns: int) -> None:
        head, payload = serialize_parts(packet)
        self._files.add(channel, payload, log_ns, packet.pts_ns, head=head)

    def _side_packet(self, side: Frame) -> Packet:
        """A side frame as the packet that carries it without loss."""
        return Packet(
            frame_id=side.frame_id,
            view=side.view,
            role="side",
            pts_ns=side.pts_ns,
            taken_ns=side.taken_ns,
            model_id=CODING_ID,
            width=side.width,
            height=side.height,
            quality=0.0,
            payload=self._packer.pack(side.pixels),
        )

    def _write_last(self) -> None:
        self._tell_drops()
        self._files.tell(STREAM, self._plan.stream())
        self._files.finish(**self._end, cpu_s=self.cpu_ns / 1e9)

    def _tell_drops(self) -> None:
        with self._changed:
            unsaid, self._unsaid = self._unsaid, 0
        if unsaid:
            self._files.tell(EVENTS, {"event": "dropped", "packets": unsaid})
            packets = "1 packet was" if unsaid == 1 else f"{unsaid} packets were"
            self._log.warning("record: %s not recorded, the disk was too slow", packets)

    def _fail(self, sentence: str) -> None:
        """The recording ends here, cleanly if that is possible."""
        with self._changed:
            self.failure = sentence
            self._plan.counters.recorder_up.set(0)
            self._changed.notify_all()
        self._log.error("record: %s; the recording ends here", sentence)
        with suppress(OSError):
            self._files.finish(complete=False, why=sentence)
        if self._files.part.exists():
            self._log.error("record: %s is left as it is, `sidecast repair` makes it whole", self._files.part)


def _preview(frame: Frame) -> bytes:
    """The picture, a whole number of times smaller: the only factors by which shrinking costs next to nothing."""
    import cv2

    from stages.picture import encode_jpeg

    factor = -(-frame.width // PREVIEW_WIDTH_PX)
    size = (frame.width // factor, max(1, frame.height // factor))
    whole = frame.pixels[: size[1] * factor, : size[0] * factor]
    small = frame.pixels if factor == 1 else np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)
    jpeg = encode_jpeg(small, PREVIEW_QUALITY, optimise=False)
    return compressed_image(jpeg, frame.pts_ns, f"{frame.view} ({frame.role})")
