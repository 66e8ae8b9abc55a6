"""Video files through PyAV: two files, or one with both views side by side. Only a few pictures are held."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.errors import SourceError
from pipeline.stage import Context
from pipeline.types import Pixels, View
from stages.picture import MAX_PIXELS, UnreadablePictureError
from stages.sources.recorded import LAST_ID, Recorded, Shot
from stages.sources.times import LATEST_NS, TimedRow, read_table

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["Video"]

Half = Literal["left", "right"] | None


@dataclass(kw_only=True)
class Video(Recorded):
    """Video files. frame_id = round(presentation time x nominal rate), or what the table of times says."""

    left: Annotated[str | None, Field(description="file of the left view")] = None
    right: Annotated[str | None, Field(description="file of the right view")] = None
    side_by_side: Annotated[str | None, Field(description="one file with the left view in its left half")] = None
    timestamps: Annotated[
        str | None,
        Field(
            description="table of times, a row per frame: CSV with a header (timestamp; frame_id or kitti_frame), or a "
            "time in seconds per line; {view} in the name stands for left or right"
        ),
    ] = None
    fps: Annotated[float | None, Field(gt=0, le=1000, description="nominal rate, where the file's is wrong")] = None

    def open(self, context: Context) -> None:
        self._readers: dict[str, VideoReader] = {}
        super().open(context)

    def open_track(self, view: View) -> VideoTrack:
        if self.side_by_side is not None and (self.left is not None or self.right is not None):
            raise SourceError("video: give either `side_by_side` or `left` and `right`, not both")
        text = self.side_by_side or getattr(self, view)
        if text is None:
            raise SourceError(f"video: the {view} view is wanted, but neither `{view}` nor `side_by_side` names a file")
        rows = read_table(Path(self.timestamps.replace("{view}", view)).expanduser()) if self.timestamps else None
        if text not in self._readers:
            # Both halves of one file come from one reader, so it is decoded once.
            self._readers[text] = VideoReader(Path(text).expanduser(), self.fps, rows, self._context)
        return VideoTrack(self._readers[text], view if self.side_by_side else None)

    def close(self) -> None:
        super().close()
        self._readers.clear()


class VideoTrack:
    """One view of a video: all of its reader's pictures, or one half of each."""

    def __init__(self, reader: VideoReader, half: Half) -> None:
        self._reader, self._half = reader, half

    def shots(self) -> Iterator[Shot]:
        last = -1
        while (picture := self._reader.after(last)) is not None:
            last = picture.frame_id
            yield self._shot(picture)

    def shot(self, frame_id: int) -> Shot | None:
        picture = self._reader.after(frame_id - 1)
        return self._shot(picture) if picture is not None and picture.frame_id == frame_id else None

    def count(self, chosen: range) -> int | None:
        return self._reader.count(chosen)

    def close(self) -> None:
        self._reader.close()

    def _shot(self, picture: Picture) -> Shot:
        return Shot(picture.frame_id, picture.pts_ns, lambda: self._pixels(picture))

    def _pixels(self, picture: Picture) -> Pixels:
        try:
            pixels = picture.pixels()
        except ValueError as error:  # also the base of PyAV's errors about data
            raise UnreadablePictureError(f"{self._reader.path}: {error}") from error
        if self._half is None:
            return pixels
        half = pixels.shape[1] // 2
        return np.ascontiguousarray(pixels[:, :half] if self._half == "left" else pixels[:, -half:])


@dataclass(slots=True)
class Picture:
    """One decoded frame; `frame` is None where the decoder could not make it."""

    frame_id: int
    pts_ns: int
    frame: av.VideoFrame | None
    _pixels: Pixels | None = None

    def pixels(self) -> Pixels:
        """(H, W, 3) uint8 RGB, turned upright as the file asks; converted once. Raises ValueError."""
        if self._pixels is None:
            if self.frame is None:
                raise ValueError(f"frame {self.frame_id} is damaged")
            pixels = self.frame.to_ndarray(format="rgb24")
            turns = round(getattr(self.frame, "rotation", 0) / 90) % 4
            self._pixels = np.ascontiguousarray(np.rot90(pixels, turns))
        return self._pixels


class VideoReader:
    """Pictures of one file by frame id: decodes forward, keeps the last few, starts again for what lies before them.

    Always from the start of the file, never by seeking, so a picture has the same id and pixels whenever it is read.
    """

    KEPT = 4

    def __init__(self, path: Path, fps: float | None, rows: list[TimedRow] | None, context: Context) -> None:
        self.path, self._rows, self._context = path, rows, context
        self._recent: deque[Picture] = deque(maxlen=self.KEPT)
        self._forgotten = -1
        self._container, stream = self._open()
        rate = Fraction(fps or stream.guessed_rate or stream.average_rate or 25)
        self._rate = max(rate.limit_denominator(1001), Fraction(1, 1000))
        self._declared = stream.frames or _frames_of_duration(stream, self._rate)
        if rows is not None and stream.frames > len(rows):
            raise self._too_few_rows(f"{stream.frames} frames")
        self._decoding = self._pictures(stream)

    def after(self, frame_id: int) -> Picture | None:
        """The first picture whose id is greater than `frame_id`; None behind the last one."""
        if frame_id < self._forgotten:
            self._rewind()
        for picture in self._recent:
            if picture.frame_id > frame_id:
                return picture
        for picture in self._decoding:
            if len(self._recent) == self.KEPT:
                self._forgotten = self._recent[0].frame_id
            self._recent.append(picture)
            if picture.frame_id > frame_id:
                return picture
        return None

    def count(self, chosen: range) -> int | None:
        """How many pictures have an id in `chosen`, as far as the table of times or the container tells."""
        if self._rows is not None:
            return sum((n if row.frame_id is None else row.frame_id) in chosen for n, row in enumerate(self._rows))
        if not self._declared:
            return None
        return len(range(chosen.start, min(chosen.stop, self._declared), chosen.step))

    def close(self) -> None:
        self._container.close()
        self._recent.clear()

    def _rewind(self) -> None:
        self.close()
        self._forgotten = -1
        self._container, stream = self._open()
        self._decoding = self._pictures(stream)

    def _open(self) -> tuple[InputContainer, VideoStream]:
        import av

        if not self.path.is_file():
            raise SourceError(f"{self.path}: there is no such video file")
        try:
            # A hostile playlist could otherwise make ffmpeg fetch addresses.
            container = av.open(str(self.path), options={"protocol_whitelist": "file"})
        except (av.error.FFmpegError, OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise SourceError(f"{self.path}: this is no video that can be read ({why})") from error
        stream = next(iter(container.streams.video), None)
        if stream is None or stream.codec_context is None:
            container.close()
            raise SourceError(f"{self.path}: there is no video that can be decoded in it")
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.codec_context.thread_count = max(1, self._context.threads)
        return container, stream

    def _pictures(self, stream: VideoStream) -> Iterator[Picture]:
        last_id, fallback_ns = -1, 0
        step_ns = round(1e9 / self._rate)
        for position, (pts, frame) in enumerate(self._decoded(stream)):
            time_base = stream.time_base or Fraction(1)
            pts_ns = fallback_ns if pts is None else round(pts * time_base * 1_000_000_000)
            frame_id = max(last_id + 1, round(Fraction(pts_ns, 1_000_000_000) * self._rate))
            if self._rows is not None:
                if position >= len(self._rows):
                    raise self._too_few_rows("more frames")
                row = self._rows[position]
                frame_id, pts_ns = position if row.frame_id is None else row.frame_id, row.pts_ns
            if frame_id > LAST_ID or abs(pts_ns) >= LATEST_NS:
                raise SourceError(
                    f"{self.path}: a presentation time of {pts_ns / 1e9:g} s is beyond what can be numbered"
                )
            yield Picture(frame_id, pts_ns, frame)
            last_id, fallback_ns = frame_id, pts_ns + step_ns

    def _decoded(self, stream: VideoStream) -> Iterator[tuple[int | None, av.VideoFrame | None]]:
        """(pts, frame) in order of presentation; a frame that the decoder could not make is None."""
        waiting: list[int] = []
        for packet in self._packets(stream):
            if packet.pts is not None and not packet.is_discard:
                heappush(waiting, packet.pts)
            for frame in self._frames(packet):
                pts = frame.pts
                while pts is not None and waiting and waiting[0] < pts:
                    yield heappop(waiting), None
                if pts is not None and not (waiting and waiting[0] == pts):
                    continue  # not asked for, or given up already
                if pts is not None:
                    heappop(waiting)
                yield pts, None if frame.is_corrupt else frame
        while waiting:
            yield heappop(waiting), None

    def _packets(self, stream: VideoStream) -> Iterator[av.Packet[VideoStream]]:
        import av

        try:
            yield from self._container.demux(stream)
        except (av.error.FFmpegError, OSError) as error:
            self._context.log.warning("%s ends in the middle: %s", self.path, error)

    def _frames(self, packet: av.Packet[VideoStream]) -> list[av.VideoFrame]:
        import av

        try:
            return [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
        except av.error.FFmpegError:
            # Its pts stays among those waited for, and so is counted as lost.
            return []

    def _too_few_rows(self, found: str) -> SourceError:
        return SourceError(f"{self.path}: its table of times has {len(self._rows or ())} rows, the video has {found}")


def _frames_of_duration(stream: VideoStream, rate: Fraction) -> int:
    if not stream.duration or stream.duration < 0 or stream.time_base is None:
        return 0
    return round(stream.duration * stream.time_base * rate)
