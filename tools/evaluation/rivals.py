"""Classical codecs by the bytes that they write: every picture coded on its own, decoded again, compared as 8-bit RGB.

| name | encoder | colour | bytes counted |
|---|---|---|---|
| hevc444, hevc420 | libx265, veryslow, constant QP, tuned for PSNR | 4:4:4, 4:2:0 | pictures; VPS, SPS, PPS once |
| h264 | libx264, the same | 4:2:0 | pictures; SPS, PPS once |
| av1 | SVT-AV1, preset 2, still-picture mode, constant quality | 4:2:0 | pictures; sequence header once |
| jpeg | libjpeg-turbo, optimised tables | 4:2:0 | the whole file |
| webp | libwebp, lossy | 4:2:0 | the whole file |
| jpeg2000 | OpenJPEG, reversible wavelet | 4:4:4 | the whole file (JP2) |

Once means once a data set: its pictures are one stream. Colour is BT.601 in full range; 4:4:4 goes in as YCbCr, because
planar RGB needs half as many bits again at equal PSNR. The wheels of PyAV have SVT-AV1 and no libaom; its still-picture
mode at preset 2 (0.1 s a picture of 128 x 256) is within 0.1 dB of preset 0 (0.9 s). x265 without its thread pool loses
nothing to wavefront parallel coding. OpenCV calls OpenJPEG without a colour transform, so it is given Y, Cb, Cr (3 dB
at equal bytes).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from pipeline.errors import ConfigError, SidecastError
from pipeline.types import Pixels
from tools.evaluation.colour import Chroma, from_planes, from_ycbcr, to_planes, to_ycbcr
from tools.evaluation.elementary import Parts, split_av1, split_h264, split_hevc

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

__all__ = ["RIVALS", "FileRival", "Rival", "VideoRival", "rivals_of"]

QPS = (36.0, 39.0, 42.0, 45.0, 48.0, 51.0)
"""H.264's and HEVC's."""


class Rival(Protocol):
    """A classical codec."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    @property
    def qualities(self) -> tuple[float, ...]:
        """Its settings, by its own scale."""

    def encode(self, pixels: Pixels, quality: float) -> Parts:
        """The coded picture of (H, W, 3) uint8."""

    def decode(self, coded: Parts, height: int, width: int) -> Pixels:
        """(height, width, 3) uint8 again."""


@dataclass(frozen=True, slots=True)
class VideoRival:
    """A video codec through PyAV; every picture is a keyframe of an encoder of its own."""

    name: str
    encoder: str
    decoder: str
    chroma: Chroma
    options: Callable[[float], dict[str, str]]
    split: Callable[[bytes], Parts]
    qualities: tuple[float, ...] = QPS

    def encode(self, pixels: Pixels, quality: float) -> Parts:
        import av

        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 tells its settings on stderr otherwise
        planes = to_planes(pixels, self.chroma)
        height, width = (n + n % 2 for n in pixels.shape[:2])
        encoder = cast("VideoCodecContext", av.CodecContext.create(self.encoder, "w"))
        encoder.width, encoder.height, encoder.pix_fmt = width, height, self.chroma
        encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25, 1)
        encoder.thread_count = 1
        encoder.options = self.options(quality)
        frame = av.VideoFrame.from_ndarray(planes, format=self.chroma)
        frame.pts = 0
        return self.split(b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None))))

    def decode(self, coded: Parts, height: int, width: int) -> Pixels:
        import av

        decoder = cast("VideoCodecContext", av.CodecContext.create(self.decoder, "r"))
        decoder.thread_count = 1
        frames = [*decoder.decode(av.Packet(coded.parameters + coded.picture)), *decoder.decode(None)]
        if len(frames) != 1:
            raise SidecastError(f"{self.name}: one picture was coded, {len(frames)} came back")
        planes = np.asarray(frames[0].to_ndarray(), np.uint8)
        return from_planes(planes, self.chroma, height, width)


@dataclass(frozen=True, slots=True)
class FileRival:
    """A picture format through OpenCV; its file counts as a whole."""

    name: str
    suffix: str
    options: Callable[[float], list[int]]
    qualities: tuple[float, ...]
    in_ycbcr: bool = False
    """Whether the channels are to be Y, Cb, Cr: for a coder that OpenCV calls without a colour transform."""

    def encode(self, pixels: Pixels, quality: float) -> Parts:
        import cv2

        channels = to_ycbcr(pixels) if self.in_ycbcr else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(self.suffix, channels, self.options(quality))
        if not done:
            raise SidecastError(f"{self.name}: OpenCV can't code a picture of {pixels.shape[1]}x{pixels.shape[0]}")
        return Parts(b"", bytes(data))

    def decode(self, coded: Parts, height: int, width: int) -> Pixels:
        import cv2

        decoded = cv2.imdecode(np.frombuffer(coded.picture, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None or decoded.shape != (height, width, 3):
            raise SidecastError(f"{self.name}: OpenCV can't read what it wrote")
        pixels: Pixels = from_ycbcr(decoded) if self.in_ycbcr else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        return pixels


def _x265(quality: float) -> dict[str, str]:
    params = f"qp={quality:g}:keyint=1:info=0:log-level=none:pools=none:frame-threads=1"
    return {"preset": "veryslow", "tune": "psnr", "x265-params": params}


def _x264(quality: float) -> dict[str, str]:
    return {"preset": "veryslow", "tune": "psnr", "qp": f"{quality:g}", "g": "1"}


def _svt(quality: float) -> dict[str, str]:
    return {"preset": "2", "crf": f"{quality:g}", "svtav1-params": "lp=1:avif=1"}


def _jpeg(quality: float) -> list[int]:
    import cv2

    return [cv2.IMWRITE_JPEG_QUALITY, round(quality), cv2.IMWRITE_JPEG_OPTIMIZE, 1]


def _webp(quality: float) -> list[int]:
    import cv2

    return [cv2.IMWRITE_WEBP_QUALITY, round(quality)]


def _jpeg2000(quality: float) -> list[int]:
    import cv2

    return [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, round(quality)]


RIVALS: dict[str, Rival] = {
    rival.name: rival
    for rival in (
        VideoRival("hevc444", "libx265", "hevc", "yuv444p", _x265, split_hevc),
        VideoRival("hevc420", "libx265", "hevc", "yuv420p", _x265, split_hevc),
        VideoRival("av1", "libsvtav1", "libdav1d", "yuv420p", _svt, split_av1, (36.0, 42.0, 47.0, 52.0, 57.0, 61.0)),
        VideoRival("h264", "libx264", "h264", "yuv420p", _x264, split_h264),
        FileRival("jpeg", ".jpg", _jpeg, (5.0, 8.0, 12.0, 18.0, 28.0, 45.0)),
        FileRival("webp", ".webp", _webp, (1.0, 5.0, 12.0, 25.0, 45.0, 70.0)),
        FileRival("jpeg2000", ".jp2", _jpeg2000, (4.0, 8.0, 12.0, 18.0, 26.0, 38.0), in_ycbcr=True),
    )
}
"""By name. The scales: HEVC and H.264 QP; AV1 CRF; JPEG and WebP quality; JPEG 2000 thousandths of the raw size."""


def rivals_of(names: list[str]) -> list[Rival]:
    """The rivals of those names; ConfigError for one that is not known."""
    for name in names:
        if name not in RIVALS:
            raise ConfigError(f"there is no rival called {name!r} (there are: {', '.join(RIVALS)})")
    return [RIVALS[name] for name in dict.fromkeys(names)]
