"""What all recorded sources share: which view, which frames, at what size and pace."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BeforeValidator, Field

from pipeline.errors import SourceError
from pipeline.stage import Context, Source
from pipeline.types import Frame, Item, Pixels, View, other_view
from stages.picture import UnreadablePictureError, read_picture, resize

__all__ = ["FileTrack", "Recorded", "Shot", "Track", "parse_frames"]

LAST_ID = (1 << 31) - 1

_FRAMES = re.compile(r"(\d{0,9}):(\d{0,9})(?::(\d{1,9}))?")


def parse_frames(text: str) -> range:
    """The frame ids that `start:stop` or `start:stop:step` selects; either end may be left out."""
    match = _FRAMES.fullmatch(text.strip())
    if not match or match[3] in ("0", "00"):
        raise ValueError(f"expected frame ids as start:stop or start:stop:step, found {text!r}")
    start, stop, step = match.groups()
    return range(int(start or 0), int(stop) if stop else LAST_ID + 1, int(step or 1))


def _check_frames(text: str | None) -> str | None:
    if text is not None and not len(parse_frames(text)):
        raise ValueError(f"{text!r} selects no frames")
    return text


def _refuse_number(value: object) -> object:
    if isinstance(value, int):
        # YAML 1.1 reads 10:50 as a number of base 60.
        raise ValueError('write it in quotes, for example "10:50"')
    return value


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a recording, not read yet."""

    frame_id: int
    pts_ns: int
    load: Callable[[], Pixels]
    """Reads it; raises UnreadablePictureError."""


class Track(Protocol):
    """One view of a recording."""

    def shots(self) -> Iterator[Shot]:
        """All pictures in order of capture, frame ids ascending."""

    def shot(self, frame_id: int) -> Shot | None:
        """The picture of that index. Cheap where asked in ascending order."""

    def count(self, chosen: range) -> int | None:
        """How many pictures have an index in `chosen`, where that is known."""

    def close(self) -> None:
        """Let go of files."""


class FileTrack:
    """A view that lies in picture files of its own, one per frame."""

    def __init__(self, files: Mapping[int, Path], times: Mapping[int, int]) -> None:
        self._files, self._times = dict(sorted(files.items())), times

    def shots(self) -> Iterator[Shot]:
        return (self._shot(i) for i in self._files)

    def shot(self, frame_id: int) -> Shot | None:
        return self._shot(frame_id) if frame_id in self._files else None

    def count(self, chosen: range) -> int:
        return sum(i in chosen for i in self._files)

    def close(self) -> None:
        pass

    def _shot(self, frame_id: int) -> Shot:
        return Shot(frame_id, self._times[frame_id], lambda: read_picture(self._files[frame_id]))


@dataclass(kw_only=True)
class Recorded(Source):
    """A recording of two views; one of them is primary."""

    view: Annotated[View, Field(description="the view that is read: left or right")] = "left"
    with_side: Annotated[
        bool, Field(description="also yield the other view's frame of the same frame_id, right after the primary")
    ] = False
    pace: Annotated[
        Literal["recorded", "fast"] | Annotated[float, Field(gt=0, le=1000)],
        Field(description="recorded: as its times say; fast: as fast as possible; a number: frames per second"),
    ] = "recorded"
    size: Annotated[
        tuple[Annotated[int, Field(ge=16, le=16384)], Annotated[int, Field(ge=16, le=16384)]] | None,
        Field(description="[width, height]: scale to cover it, then crop the centre; null leaves the size as it is"),
    ] = None
    frames: Annotated[
        str | None,
        BeforeValidator(_refuse_number),
        AfterValidator(_check_frames),
        Field(description='"start:stop" or "start:stop:step" by frame_id (not position), so both views keep the same'),
    ] = None

    @abstractmethod
    def open_track(self, view: View) -> Track:
        """Find the pictures of a view. Raises SourceError that says what was looked for and what is there."""

    def open(self, context: Context) -> None:
        self._context = context
        self._tracks: dict[View, Track] = {}
        self._first_size: dict[View, tuple[int, int]] = {}
        self._unreadable: Counter[View] = Counter()
        self._chosen = parse_frames(self.frames) if self.frames is not None else range(LAST_ID + 1)
        views: tuple[View, ...] = (self.view, other_view(self.view)) if self.with_side else (self.view,)
        for view in views:
            try:
                self._tracks[view] = self.open_track(view)
            except OSError as error:
                raise SourceError(f"{self._name}: {error.filename}: {error.strerror or error}") from error
        if self._tracks[self.view].count(self._chosen) == 0:
            raise SourceError(f"{self._name}: there is no frame in frames: {self.frames}")

    def read(self) -> Iterator[Item]:
        """Frames at the chosen pace. One that cannot be read is dropped in the ledger as `unreadable`."""
        return self._read(paced=self.pace != "fast", head=True)

    def pull(self) -> Iterator[Item]:
        """Frames without pace. One that cannot be read is left out: it is not this source that accounts for it."""
        return self._read(paced=False, head=False)

    def expected_frames(self) -> int | None:
        return self._tracks[self.view].count(self._chosen)

    def frame_at(self, frame_id: int) -> Frame | None:
        """The frame of the chosen view, or None if there is none or it cannot be read. Cheap in ascending order."""
        shot = self._tracks[self.view].shot(frame_id) if frame_id in self._chosen else None
        return self._load(shot, self.view) if shot else None

    def close(self) -> None:
        for view, track in self._tracks.items():
            if n := self._unreadable[view]:
                noun = "frame" if n == 1 else "frames"
                self._context.log.warning("%s: %d %s of the %s view could not be read", self._name, n, noun, view)
            track.close()
        self._tracks.clear()

    @property
    def _name(self) -> str:
        return type(self).__name__.lower()

    def _read(self, *, paced: bool, head: bool) -> Iterator[Frame]:
        start = self._context.clock.monotonic_ns()
        first_ns: int | None = None
        for position, shot in enumerate(self._chosen_shots()):
            if first_ns is None:
                first_ns = shot.pts_ns
            if paced:
                self._wait(start, position, shot.pts_ns - first_ns)
            if self._context.stop.is_set():
                return
            frame = self._load(shot, self.view)
            if frame is None:
                if head:
                    self._context.ledger.drop(shot.frame_id, "unreadable", shot.pts_ns)
                continue
            yield frame
            if self.with_side and head:
                yield from self._side_of(shot.frame_id)

    def _chosen_shots(self) -> Iterator[Shot]:
        for shot in self._tracks[self.view].shots():
            if shot.frame_id >= self._chosen.stop:
                return
            if shot.frame_id in self._chosen:
                yield shot

    def _side_of(self, frame_id: int) -> Iterator[Frame]:
        view = other_view(self.view)
        shot = self._tracks[view].shot(frame_id)
        frame = self._load(shot, view) if shot else None
        if frame is not None:
            yield frame

    def _wait(self, start_ns: int, position: int, since_first_ns: int) -> None:
        due = since_first_ns if isinstance(self.pace, str) else round(position / self.pace * 1e9)
        clock = self._context.clock
        clock.sleep((start_ns + due - clock.monotonic_ns()) / 1e9, until=self._context.stop)

    def _load(self, shot: Shot, view: View) -> Frame | None:
        try:
            pixels = resize(shot.load(), self.size)
        except UnreadablePictureError as error:
            self._unreadable[view] += 1
            if self._unreadable[view] == 1:
                self._context.log.warning("frame %d of the %s view is left out: %s", shot.frame_id, view, error)
            return None
        self._check_size(pixels, shot.frame_id, view)
        role: Any = "primary" if view == self.view else "side"
        return Frame(pixels, view, shot.frame_id, shot.pts_ns, self._context.clock.wall_ns(), role)

    def _check_size(self, pixels: Pixels, frame_id: int, view: View) -> None:
        height, width = pixels.shape[:2]
        first = self._first_size.setdefault(view, (width, height))
        if first != (width, height):
            raise SourceError(
                f"{self._name}: frame {frame_id} of the {view} view is {width}x{height}, those before it are "
                f"{first[0]}x{first[1]}; give the source a `size` that all are brought to"
            )
