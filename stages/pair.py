"""Give each primary view, coded or not, the side view that belongs to it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from pipeline.errors import ConfigError, SidecastError, StageError
from pipeline.latency import Cause
from pipeline.ledger import Ledger
from pipeline.pairing import Match, Pairing, Policy, Stamp
from pipeline.stage import Context, Source, Stage
from pipeline.types import Frame, Item, Packet, StereoPair

__all__ = ["Pair"]

MS = 1_000_000
MAX_HELD = 4
"""Primaries held back for a side view of the own chain: fewer than any window of credits."""

Primary = Packet | Frame


@dataclass(kw_only=True)
class Pair(Stage):
    """Joins primaries with the frames of `side`, or with the side frames that come down its own chain.

    A nested recording is read without waiting, so the pairs are the same in every run; a nested camera runs in a thread
    of its own. Every primary comes out once and in order; `unpaired` ones without a side view, and counted.
    """

    cause: ClassVar[Cause | None] = "pair"

    policy: Annotated[
        Policy,
        Field(
            description="exact: the same frame_id; nearest: the closest time within tolerance_ms; "
            "latest: the freshest, at most max_age_ms old"
        ),
    ] = "exact"
    tolerance_ms: Annotated[float, Field(ge=0, description="nearest: largest difference in time")] = 50.0
    offset_ms: Annotated[
        float,
        Field(
            allow_inf_nan=False,
            description="added to the side view's capture times, where its clock is known to differ: what "
            "`sidecast calibrate-offset` finds; a live side view that is late needs as much max_wait_ms",
        ),
    ] = 0.0
    max_wait_ms: Annotated[float, Field(ge=0, description="longest wait for a side view that is not recorded")] = 100.0
    max_age_ms: Annotated[float, Field(ge=0, description="latest: oldest side view that is used")] = 200.0
    side: Annotated[Source | None, Field(description="source of the side view; null: it comes down the same chain")] = (
        None
    )

    def open(self, context: Context) -> None:
        self._check_offset()
        self._context = context
        self._stream_id: int | None = None
        self._pulled: Iterator[Item] | None = None
        self._camera: _Camera | None = None
        self._pairing = self._new_pairing()
        self._side_facts: dict[str, Any] = {}
        if self.side is None:
            return
        # What the side view cannot deliver must not count as a primary frame that was dropped.
        stop = threading.Event()
        self.side.open(replace(context, ledger=Ledger(), stop=stop, facts=self._side_facts))
        if self.side.clock == "wall":
            self._camera = _Camera(self.side, stop)
        else:
            self._pulled = self.side.pull()

    def _check_offset(self) -> None:
        live = self.side is None or self.side.clock == "wall"
        if self.offset_ms and (self.policy == "exact" or (self.policy == "latest" and live)):
            raise ConfigError(
                f"pair: offset_ms {self.offset_ms:g} has no meaning here, {self.policy} compares no capture times; "
                "use policy: nearest, or leave offset_ms out"
            )

    def process(self, item: Item) -> Iterator[Item]:
        """Takes Packets and Frames, yields StereoPairs. A reference is yielded as it is."""
        if not isinstance(item, Packet | Frame) or item.role == "reference":
            yield item
        elif item.role == "side":
            yield from self._process_side(item)
        else:
            yield from self._restart(item)
            yield from self._process_primary(item)

    def flush(self) -> Iterator[Item]:
        self._pairing.end_sides()
        yield from self._decided()

    def close(self) -> None:
        if self._camera is not None:
            self._camera.stop()
        if self.side is not None:
            self.side.close()
            # The report tells what a camera went through; other facts of a side view would pass for the primary's.
            self._context.facts.update((k, v) for k, v in self._side_facts.items() if k.startswith("camera_"))

    def _new_pairing(self) -> Pairing[Primary, Frame]:
        nested, recorded = self.side is not None, self.side is not None and self.side.clock == "recorded"
        return Pairing(
            self.policy,
            tolerance_ns=round(self.tolerance_ms * MS),
            max_age_ns=round(self.max_age_ms * MS),
            max_wait_ns=None if recorded else round(self.max_wait_ms * MS),
            max_primaries=None if nested else MAX_HELD,
            live=not recorded,
            wait_for_silent=not nested,
        )

    def _restart(self, primary: Primary) -> Iterator[Item]:
        """An encoder that was started again begins anew, and so does a recorded side view."""
        if not isinstance(primary, Packet) or primary.stream_id == self._stream_id:
            return
        if self._stream_id is not None:
            yield from self.flush()
            self._pairing = self._new_pairing()
            if self.side is not None and self._pulled is not None:
                self._pulled = self.side.pull()
        self._stream_id = primary.stream_id

    def _process_side(self, item: Primary) -> Iterator[Item]:
        if not isinstance(item, Frame):
            raise StageError("pair", item.frame_id, "the side view is still coded, decode_image belongs before pair")
        if self.side is not None:
            raise StageError("pair", item.frame_id, "a side view comes down the chain although `side` names a source")
        self._add_side(item)
        yield from self._decided()

    def _process_primary(self, primary: Primary) -> Iterator[Item]:
        if self._camera is not None:
            self._take_camera(self._camera)
        self._pairing.add_primary(self._stamp_primary(primary), primary, self._now_ns())
        yield from self._decided(primary)
        while self._pairing.waiting and (self._pulled is not None or self._camera is not None):
            if self._camera is not None:
                self._camera.wait((self._pairing.wait_left_ns(self._now_ns()) or 0) / 1e9)
                self._take_camera(self._camera)
            elif self._pulled is not None:
                self._pull(self._pulled, primary)
            yield from self._decided(primary)

    def _pull(self, pulled: Iterator[Item], primary: Primary) -> None:
        frame = next(pulled, None)
        if isinstance(frame, Frame):
            self._add_side(frame)
        elif frame is None:
            self._context.log.warning("the side view ended before frame %d of the primary view", primary.frame_id)
            self._pairing.end_sides()

    def _take_camera(self, camera: _Camera) -> None:
        for frame in camera.take():
            self._add_side(frame)
        if camera.ended:
            self._pairing.end_sides()

    def _add_side(self, frame: Frame) -> None:
        time_ns = frame.taken_ns if self._by_taking else frame.pts_ns + self._offset_ns
        self._pairing.add_side(Stamp(frame.frame_id, time_ns), replace(frame, role="side"))

    def _stamp_primary(self, primary: Primary) -> Stamp:
        return Stamp(primary.frame_id, primary.pts_ns + self._clock_offset_ns(primary))

    @property
    def _offset_ns(self) -> int:
        return round(self.offset_ms * MS)

    @property
    def _by_taking(self) -> bool:
        """Age counts from the taking of a frame, not from the stamps of a recording, unless that is pulled."""
        return self.policy == "latest" and self._pulled is None

    def _clock_offset_ns(self, primary: Primary) -> int:
        """What brings the primary's pts to the side's clock: only two wall clocks can differ by a known offset."""
        both_wall = self._camera is not None and self._context.facts.get("clock") == "wall"
        return primary.clock_offset_ns if both_wall and isinstance(primary, Packet) else 0

    def _decided(self, newest: Primary | None = None) -> Iterator[Item]:
        # Down one chain both views were taken by one machine, whose wall clock need not be this one's.
        taken_ns = newest.taken_ns if newest is not None else 0
        age_now_ns = self._context.clock.wall_ns() if self._camera is not None else taken_ns
        for match in self._pairing.decide(self._now_ns(), age_now_ns):
            yield self._join(match)

    def _join(self, match: Match[Primary, Frame]) -> StereoPair:
        primary, side, context = match.primary, match.side, self._context
        if side is None:
            context.ledger.note(primary.frame_id, unpaired=1.0)
            context.metrics.unpaired.inc()
            return StereoPair(primary, None)
        self._check(primary, side)
        offset_ns = side.pts_ns + self._offset_ns - primary.pts_ns - self._clock_offset_ns(primary)
        context.ledger.note(primary.frame_id, side_offset_ms=offset_ns / MS)
        context.metrics.pair_offset_seconds.set(offset_ns / 1e9)
        if self._camera is not None:
            context.metrics.side_age_seconds.observe(max(0, context.clock.wall_ns() - side.taken_ns) / 1e9)
        return StereoPair(primary, side, offset_ns)

    def _check(self, primary: Primary, side: Frame) -> None:
        if side.view == primary.view:
            raise StageError(
                "pair", primary.frame_id, f"the side view and the primary view are both the {side.view} one"
            )
        if (side.width, side.height) != (primary.width, primary.height):
            raise StageError(
                "pair",
                primary.frame_id,
                f"the primary view ({primary.view}) is {primary.width}x{primary.height}, "
                f"the side view ({side.view}) is {side.width}x{side.height}; give both sources the same `size`",
            )

    def _now_ns(self) -> int:
        return self._context.clock.monotonic_ns()


class _Camera:
    """Reads a live source in a thread of its own and keeps its last few frames."""

    KEPT = 24

    def __init__(self, source: Source, stop: threading.Event) -> None:
        self._source, self._stop = source, stop
        self._frames: deque[Frame] = deque(maxlen=self.KEPT)
        self._arrived = threading.Condition()
        self._error: SidecastError | None = None
        self._done = False
        self._thread = threading.Thread(target=self._run, name="pair-side", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """No frame will come any more, and all have been taken."""
        with self._arrived:
            return self._done and not self._frames

    def take(self) -> list[Frame]:
        """The frames that came since the last call. Raises what ended the source."""
        with self._arrived:
            frames = list(self._frames)
            self._frames.clear()
            if self._error is not None:
                raise self._error
            return frames

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier when a frame has come or the source has ended."""
        with self._arrived:
            self._arrived.wait_for(lambda: bool(self._frames) or self._done, timeout=seconds)

    def stop(self) -> None:
        """Let the thread end after the frame it is at."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            for frame in self._source.read():
                if self._stop.is_set():
                    break
                if isinstance(frame, Frame) and frame.role == "primary":
                    with self._arrived:
                        self._frames.append(frame)
                        self._arrived.notify_all()
        except SidecastError as error:
            self._error = error
        finally:
            with self._arrived:
                self._done = True
                self._arrived.notify_all()
