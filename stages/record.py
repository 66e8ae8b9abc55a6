"""Packets to a recording: the bytes of the wire, with the side views that they were paired with."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from pipeline import wire
from pipeline.errors import ConfigError, StageError
from pipeline.latency import Cause
from pipeline.stage import Context, Stage
from pipeline.types import Decoded, Frame, Item, Packet, StereoPair
from stages.recorded_files import Plan
from stages.recorder import Job, Recorder

__all__ = ["Record"]

MB = 1_000_000
MAX_CALIBRATION = 16 * MB
"""Bytes; every file of a recording carries it, and readers keep it in memory."""
FACTS = (
    "model",
    "model_id",
    "quality",
    "clock",
    "encode_device",
    "device",
    "width",
    "height",
    "expected_frames",
    "reference_bytes_on_wire",
    "side_bytes_on_wire",
)


@dataclass(kw_only=True)
class Record(Stage):
    """Record every packet that passes; the items pass as they are.

    Behind `pair` it also notes with which side frame each packet was paired, so that a replay repeats the decision;
    behind `encode` or `receive` it records the packets alone. The file is an MCAP, NAME.mcap.part until it is finished,
    and never written over one that is there. Recorded sources wait for a slow disk; live ones are not kept waiting,
    what does not fit is dropped from the recording and counted in it. A full disk ends the recording, and the run goes
    on.
    """

    cause: ClassVar[Cause | None] = "show"

    path: Annotated[str, Field(min_length=1, description="file, relative to --out")] = "recording.mcap"
    side: Annotated[bool, Field(description="store the side frames too, without loss")] = False
    preview_every_s: Annotated[
        float | None,
        Field(gt=0, description="a picture for Foxglove at these intervals of capture time, if it passes; null: none"),
    ] = 0.5
    max_mb: Annotated[float | None, Field(ge=1, description="begin another file before one is larger; null: never")] = (
        None
    )
    buffer_mb: Annotated[float, Field(ge=1, le=4096, description="what may wait for the disk")] = 64.0
    calibration: Annotated[str | None, Field(description="a file with the rig's calibration to attach")] = None

    _context: Context = field(init=False, repr=False)
    _recorder: Recorder | None = field(init=False, repr=False, default=None)
    _calibration: bytes | None = field(init=False, repr=False, default=None)
    _preview_due_ns: int | None = field(init=False, repr=False, default=None)
    _version: str = field(init=False, repr=False, default="")
    _ended: bool = field(init=False, repr=False, default=False)
    _cpu_ns: int = field(init=False, repr=False, default=0)

    def open(self, context: Context) -> None:
        import cv2  # noqa: F401 - not at the first frame

        self._context, self._version = context, metadata.version("sidecast")
        path = context.out / self.path
        if path.exists() and not path.is_file():
            raise ConfigError(f"record: {path} is a folder or a device, expected the name of a file")
        if self.calibration is not None:
            try:
                self._calibration = Path(self.calibration).read_bytes()
            except OSError as error:
                raise ConfigError(f"record: calibration {self.calibration}: {error.strerror or error}") from error
            if (size := len(self._calibration)) > MAX_CALIBRATION:
                raise ConfigError(
                    f"record: calibration {self.calibration} has {size} bytes, at most {MAX_CALIBRATION} are attached"
                )

    def process(self, item: Item) -> Iterator[Item]:
        begin_ns = time.thread_time_ns()
        job = self._job(item)
        if job is not None:
            self._recorder = self._recorder or self._start()
            self._recorder.put(job, lambda: self._context.error is not None)
        self._cpu_ns += time.thread_time_ns() - begin_ns
        yield item

    def flush(self) -> Iterator[Item]:
        self._ended = True
        yield from ()

    def close(self) -> None:
        """Finish the file. Raises StageError if the disk did not take everything."""
        recorder = self._recorder
        if recorder is None:
            return
        why = self._why_not_whole()
        recorder.close(complete=not why, **({"why": why} if why else {}), stage_cpu_s=self._cpu_ns / 1e9)
        missing = recorder.missing
        self._context.log.info("recorded %d packets to %s", recorder.kept, ", ".join(map(str, recorder.finished)))
        if recorder.failure:
            raise StageError("record", None, f"{missing} packets are not in the recording: {recorder.failure}")
        if missing:
            self._context.log.warning("%d packets are not in the recording", missing)

    @property
    def cpu_s(self) -> float:
        """Processor time that recording has cost, in both of its threads."""
        return (self._cpu_ns + (self._recorder.cpu_ns if self._recorder else 0)) / 1e9

    def _start(self) -> Recorder:
        context = self._context
        recorder = Recorder(
            Plan(
                path=context.out / self.path,
                store_side=self.side,
                max_bytes=None if self.max_mb is None else round(self.max_mb * MB),
                buffer_bytes=round(self.buffer_mb * MB),
                waits=context.facts.get("clock") != "wall",
                attachments=lambda: list(self._attachments()),
                stream=self._stream,
                counters=context.metrics,
                metrics=self._metrics,
                log=context.log,
            )
        )
        context.facts["recording"] = str(recorder.path)
        return recorder

    def _why_not_whole(self) -> str:
        """What the end of the recording says of its run; empty where that went to its end."""
        if error := self._context.error:
            return str(error) or "the run was stopped"
        if not self._ended:
            return "the run was stopped"
        return "" if self._context.facts.get("complete", True) else "the end of the stream never came"

    def _job(self, item: Item) -> Job | None:
        match item:
            case Packet():
                return Job(item, None, None)
            case StereoPair(primary=Packet() as packet, side=side, offset_ns=offset_ns):
                return Job(packet, (side, offset_ns), self._due(side))
            case Decoded(packet=packet, side=side, frame=frame):
                offset_ns = 0 if side is None else side.pts_ns - packet.pts_ns
                return Job(packet, (side, offset_ns), self._due(frame))
            case _:
                return None

    def _due(self, frame: Frame | None) -> Frame | None:
        """The frame if it is time for a preview."""
        if frame is None or self.preview_every_s is None:
            return None
        if self._preview_due_ns is not None and frame.pts_ns < self._preview_due_ns:
            return None
        self._preview_due_ns = frame.pts_ns + round(self.preview_every_s * 1e9)
        return frame

    def _attachments(self) -> Iterator[tuple[str, str, bytes]]:
        if self._context.config:
            yield "config.yaml", "application/yaml", self._context.config.encode()
        yield "wire-format.txt", "text/plain", (wire.__doc__ or "").encode()
        weights = {name: self._context.facts.get(name) for name in ("model", "model_id")}
        yield "weights.json", "application/json", json.dumps(weights).encode()
        if self._calibration is not None:
            yield "calibration", "application/octet-stream", self._calibration

    def _stream(self) -> dict[str, Any]:
        context = self._context
        facts = {name: context.facts[name] for name in FACTS if name in context.facts}
        return {**facts, "node": context.node, "threads": context.threads, "sidecast": self._version}

    def _metrics(self) -> dict[str, float]:
        """All counters and gauges of the node, by name and labels; no buckets."""
        samples = (sample for family in self._context.metrics.registry.collect() for sample in family.samples)
        return {
            ".".join([sample.name.removeprefix("sidecast_"), *sample.labels.values()]): sample.value
            for sample in samples
            if math.isfinite(sample.value) and not sample.name.endswith(("_bucket", "_created", "_info"))
        }
