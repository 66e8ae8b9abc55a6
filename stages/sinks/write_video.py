"""Frames to a video file that is playable whenever the run ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from pipeline.errors import StageError
from pipeline.latency import Cause
from pipeline.stage import Context, Stage
from pipeline.types import Decoded, Frame, Item, Pixels, StereoPair, picture_of

__all__ = ["WriteVideo"]

TICKS_PER_S = 90_000
"""The usual clock of video in MP4."""

FRAGMENT_FRAMES = 25
"""Frames between keyframes. Each keyframe starts a fragment, and what is in finished fragments survives a kill."""

ENCODERS = {"h264": "libx264", "hevc": "libx265"}


@dataclass(kw_only=True)
class WriteVideo(Stage):
    """Write every frame of the primary view, decoded or never coded, at its time of capture, counted from the first
    one; the items pass.

    The file is a fragmented MP4, written in place: it plays after Ctrl-C, and up to the last fragment after a kill.
    A decoder that is started again in the middle of a stream leaves the video of the one before it alone and writes
    NAME_0002.mp4.
    """

    cause: ClassVar[Cause | None] = "show"

    path: Annotated[str, Field(min_length=1, description="file, relative to --out")] = "decoded.mp4"
    codec: Annotated[Literal["h264", "hevc"], Field(description="h264 plays everywhere")] = "h264"
    crf: Annotated[int, Field(ge=0, le=51, description="quality of the video, 0 best; adds its own small loss")] = 16
    content: Annotated[
        Literal["decoded", "side_by_side"],
        Field(description="side_by_side: the left view on the left, the right view on the right"),
    ] = "decoded"

    _context: Context = field(init=False, repr=False)
    _file: Path = field(init=False, repr=False)
    _output: _WholeFile = field(init=False, repr=False)
    _container: Any = field(init=False, repr=False, default=None)
    _stream: Any = field(init=False, repr=False, default=None)
    _size: tuple[int, int] = field(init=False, repr=False, default=(0, 0))
    _first_ns: int = field(init=False, repr=False, default=0)
    _last_tick: int = field(init=False, repr=False, default=-1)
    _finished: bool = field(init=False, repr=False, default=False)

    def open(self, context: Context) -> None:
        import av  # noqa: F401 - not at the first frame

        self._context, self._file = context, context.out / self.path
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failure(None, error) from error

    def process(self, item: Item) -> Iterator[Item]:
        import av

        frame = picture_of(item)
        if frame is not None:
            pixels = _even(self._picture(frame, item))
            try:
                if self._container is None:
                    if self._continues(item):
                        self._file = _free_name(self._file)
                    self._start(frame, pixels)
                self._check_size(frame, pixels)
                self._write(frame, pixels)
            except (OSError, av.FFmpegError) as error:
                raise self._failure(frame.frame_id, error) from error
        yield item

    def flush(self) -> Iterator[Item]:
        self._finish()
        yield from ()

    def close(self) -> None:
        self._finish()

    def _picture(self, frame: Frame, item: Item) -> Pixels:
        if self.content == "decoded":
            return frame.pixels
        side = item.side.pixels if isinstance(item, Decoded | StereoPair) and item.side else np.zeros_like(frame.pixels)
        return np.hstack((frame.pixels, side) if frame.view == "left" else (side, frame.pixels))

    def _continues(self, item: Item) -> bool:
        """Whether frames before this one went to another decoder; only behind `receive` is `complete` known."""
        return isinstance(item, Decoded) and item.packet.sequence > 0 and "complete" in self._context.facts

    def _start(self, frame: Frame, pixels: Pixels) -> None:
        import av

        height, width = pixels.shape[:2]
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        self._output = _WholeFile(self._file, "wb")
        self._container = av.open(self._output, "w", format="mp4", options=options)
        stream: Any = self._container.add_stream(ENCODERS[self.codec], options=self._options())
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, TICKS_PER_S)
        stream.codec_context.thread_count = max(1, self._context.threads)
        stream.codec_context.gop_size = FRAGMENT_FRAMES
        _tag_bt709(stream.codec_context)
        self._stream, self._size, self._first_ns = stream, (width, height), frame.pts_ns
        self._context.facts["video"] = str(self._file)

    def _options(self) -> dict[str, str]:
        """No B-frames and no look-ahead: what went in is soon in the file, and it costs little."""
        options = {"crf": str(self.crf), "preset": "veryfast", "tune": "zerolatency"}
        return options if self.codec == "h264" else {**options, "x265-params": "log-level=error"}

    def _check_size(self, frame: Frame, pixels: Pixels) -> None:
        height, width = pixels.shape[:2]
        if (width, height) != self._size:
            raise StageError(
                "write_video",
                frame.frame_id,
                f"{self._file} has {self._size[0]}x{self._size[1]} pixels and the frame {width}x{height}; "
                "give the source a `size`",
            )

    def _write(self, frame: Frame, pixels: Pixels) -> None:
        import av

        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", threads=1
        )
        picture.pts, picture.time_base = self._tick(frame), Fraction(1, TICKS_PER_S)
        self._container.mux(self._stream.encode(picture))

    def _tick(self, frame: Frame) -> int:
        """The frame's time in ticks; always later than the one before, as players want it."""
        tick = round((frame.pts_ns - self._first_ns) * TICKS_PER_S / 1_000_000_000)
        self._last_tick = max(tick, self._last_tick + 1)
        return self._last_tick

    def _finish(self) -> None:
        import av

        if self._container is None or self._finished:
            return
        self._finished = True
        try:
            with closing(self._output), closing(self._container):
                self._container.mux(self._stream.encode(None))
        except (OSError, av.FFmpegError) as error:
            raise self._failure(None, error) from error

    def _failure(self, frame_id: int | None, error: Exception) -> StageError:
        why = getattr(error, "strerror", None) or str(error)
        return StageError("write_video", frame_id, f"{self._file} cannot be written: {why}")


class _WholeFile(FileIO):
    """Writes all or raises: what FFmpeg writes by itself at the end of a file, it does not look after."""

    def write(self, data: Any) -> int:
        view = memoryview(data)
        while view:
            view = view[super().write(view) or 0 :]
        return len(data)


def _free_name(path: Path) -> Path:
    """`path`, or the first of STEM_0002.mp4, STEM_0003.mp4, ... that is not there."""
    names = (path.with_name(f"{path.stem}_{number:04d}{path.suffix}") for number in count(2))
    return path if not path.exists() else next(name for name in names if not name.exists())


def _even(pixels: Pixels) -> Pixels:
    """4:2:0 needs even sizes: repeat the last row and column where they are odd."""
    height, width = pixels.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(pixels)
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _tag_bt709(codec_context: Any) -> None:
    """Say which matrix the colours went through, so that no player has to guess by the picture's size."""
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    codec_context.colorspace = int(Colorspace.ITU709)
    codec_context.color_range = int(ColorRange.MPEG)
    codec_context.color_primaries = int(ColorPrimaries.BT709)
    codec_context.color_trc = int(ColorTrc.BT709)
