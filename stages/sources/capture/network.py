"""Cameras of the network through PyAV: rtsp, http MJPEG, MPEG-TS over udp and tcp."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from pipeline.clock import Clock
from pipeline.config.addresses import without_passwords
from pipeline.errors import SourceError
from pipeline.types import Pixels
from stages.picture import MAX_PIXELS
from stages.sources.capture.device import Arrival

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["SCHEMES", "NetworkCamera"]

SCHEMES = {
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsp,rtsps,rtp,udp,tcp,tls",
    "http": "http,tcp",
    "https": "https,http,tls,tcp",
    "udp": "udp",
    "tcp": "tcp",
}
"""What a URL begins with, and the protocols that it may lead to: a hostile camera must not open our files."""
FORMATS = "mpegts,mpjpeg,mjpeg,rtsp,sdp,h264,hevc"
OPEN_S = 3.0
"""How long connecting may take, the first packets included."""
NO_TIMESTAMPS = 0x0080
"""AVFMT_NOTIMESTAMPS: such a format, MJPEG for one, counts its frames and knows no time."""

OPTIONS = {
    "format_whitelist": FORMATS,
    "flags": "low_delay",
    # Enough to know the codec; the packets read meanwhile are kept and come first, so the first keyframe isn't lost.
    "probesize": "500000",
    "analyzeduration": "200000",
    # Guessing the rate would take twenty frames and is often wrong; measured: open after 0.05 s instead of 0.65 s.
    "fpsprobesize": "0",
    # A larger buffer of the kernel against losses at keyframes; it is read at once, so nothing grows old in it.
    "buffer_size": "1000000",
}


class NetworkCamera:
    """A camera behind a URL."""

    def __init__(self, url: str, clock: Clock, *, silence_s: float = 2.0) -> None:
        """`silence_s`: a read that brings nothing for so long fails."""
        self.name = without_passwords(url)
        self._url, self._clock, self._silence_s = url, clock, silence_s
        self._container: InputContainer | None = None
        self._packets: Iterator[av.Packet[VideoStream]] = iter(())
        self._frames: list[av.VideoFrame] = []
        self._frame: av.VideoFrame | None = None
        self._stream: VideoStream | None = None
        self._timed = True

    @property
    def stream(self) -> VideoStream | None:
        """The open video stream, for those who want to know its codec."""
        return self._stream

    def open(self) -> None:
        import av

        scheme = self._url.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise SourceError(f"camera {self.name}: {scheme}:// is not supported, expected {', '.join(SCHEMES)}")
        options = {**OPTIONS, "protocol_whitelist": SCHEMES[scheme]}
        try:
            container = av.open(self._url, options=options, timeout=(OPEN_S, self._silence_s))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"camera {self.name} cannot be opened: {self._told(error, OPEN_S)}") from error
        self._container = container
        self._start(container)

    def grab(self) -> Arrival | None:
        import av

        if not self._frames:
            packet = self._next_packet()
            try:
                self._frames = [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
            except av.error.FFmpegError:
                return None  # lost or damaged on its way; the decoder goes on at the next keyframe
        if not self._frames:
            return None
        self._frame = self._frames.pop(0)
        if self._frame.is_corrupt:
            return None
        return Arrival(self._clock.wall_ns(), self._pts_ns(self._frame))

    def retrieve(self) -> Callable[[], Pixels]:
        frame = self._frame
        if frame is None:
            raise SourceError(f"camera {self.name} has no frame to give")
        return lambda: np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)

    def settle(self) -> str | None:
        return None

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container, self._stream, self._frame, self._frames = None, None, None, []
        self._packets = iter(())

    def _start(self, container: InputContainer) -> None:
        stream = next(iter(container.streams.video), None)
        if stream is None or stream.codec_context is None:
            self.close()
            raise SourceError(f"camera {self.name} sends no video that can be decoded")
        # Decoding by frames in several threads would hold as many frames back.
        stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        self._stream, self._timed = stream, not container.format.flags & NO_TIMESTAMPS
        self._packets = container.demux(stream)

    def _next_packet(self) -> av.Packet[VideoStream]:
        import av

        try:
            packet = next(self._packets, None)
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"camera {self.name}: {self._told(error, self._silence_s)}") from error
        if packet is None:
            raise SourceError(f"camera {self.name} has hung up")
        return packet

    def _pts_ns(self, frame: av.VideoFrame) -> int | None:
        if not self._timed or frame.pts is None or frame.time_base is None:
            return None
        return round(frame.pts * frame.time_base * 1_000_000_000)

    def _told(self, error: Exception, patience_s: float) -> str:
        import av

        if isinstance(error, av.error.ExitError):
            return f"nothing came for {patience_s:g} s"
        if isinstance(error, av.error.InvalidDataError):
            return f"what it sends is none of {FORMATS.replace(',', ', ')}"
        if getattr(error, "errno", None) == errno.EIO:
            return "its address is not known, or it breaks off"
        return str(getattr(error, "strerror", None) or error).lower()
