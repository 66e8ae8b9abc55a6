"""The numbers of a run on its picture: bitrate, quality where it is known, latency by cause.

A library of the sink `display`. The newest frame is still on its way when it is drawn, so its latency and what the
encoder's node tells of it are not known: shown are means over the last second or two of frames that are through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.latency import CAUSES, Cause, by_cause_ms
from pipeline.ledger import OUT, Ledger
from pipeline.types import Decoded, Frame, Pixels
from pipeline.wire import HEADER_BYTES

__all__ = ["Numbers", "Tally", "draw"]

WINDOW_NS = 2_000_000_000
MOST_FRAMES = 120
LEAST_WIDTH_PX, MOST_WIDTH_PX = 640, 1280
LINE_PX, MARGIN_PX, GAP_PX, BAR_PX = 19, 10, 10, 6
FONT_SIZE = 0.42
INK, QUIET = (255, 255, 255), (190, 196, 202)
COLOURS: Mapping[Cause, tuple[int, int, int]] = {
    "capture": (120, 180, 255),
    "pair": (255, 214, 102),
    "encode": (110, 220, 150),
    "network": (255, 150, 90),
    "decode": (200, 160, 255),
    "show": (160, 160, 160),
}
"""RGB of the causes, light enough for a dark ground."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is known of a stream at one moment; None is unknown here."""

    frame_id: int
    kbps: float | None = None
    bpp: float | None = None
    psnr_db: float | None = None
    paired: bool | None = None
    """Whether the frame was decoded with its side view."""
    latency_ms: Mapping[Cause, float] | None = None


class Tally:
    """Keeps what the numbers are made of, for one thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sizes: deque[tuple[int, int]] = deque(maxlen=MOST_FRAMES)
        self._through: deque[int] = deque(maxlen=MOST_FRAMES)
        self._latencies: deque[Mapping[Cause, float]] = deque(maxlen=MOST_FRAMES)

    def add(self, item: Decoded | Frame) -> None:
        """A frame has come by."""
        self._explain()
        if isinstance(item, Decoded):
            self._add_size(item.packet.pts_ns, HEADER_BYTES + len(item.packet.payload))
        self._through.append(item.frame.frame_id if isinstance(item, Decoded) else item.frame_id)

    def numbers(self, item: Decoded | Frame) -> Numbers:
        """What stands on the picture of this frame."""
        if isinstance(item, Frame):
            return Numbers(item.frame_id, latency_ms=self._latency())
        row = self._ledger.row(item.frame.frame_id)
        values = row.values if row else {}
        return Numbers(
            item.frame.frame_id,
            self._kbps(),
            8 * len(item.packet.payload) / (item.frame.width * item.frame.height),
            values.get("psnr_db"),
            item.side is not None,
            self._latency(),
        )

    def _add_size(self, pts_ns: int, size: int) -> None:
        if self._sizes and pts_ns <= self._sizes[-1][0]:
            self._sizes.clear()  # another encoder, or a recording that begins anew
        self._sizes.append((pts_ns, size))
        while pts_ns - self._sizes[0][0] > WINDOW_NS:
            self._sizes.popleft()

    def _kbps(self) -> float | None:
        if len(self._sizes) < 2:
            return None
        seconds = (self._sizes[-1][0] - self._sizes[0][0]) / 1e9
        return sum(size for _, size in list(self._sizes)[1:]) * 8 / 1000 / seconds

    def _explain(self) -> None:
        """Take up the latencies that have become known, oldest first."""
        while self._through:
            row = self._ledger.row(self._through[0])
            causes = by_cause_ms(row.values) if row and row.status == OUT else None
            if causes is not None:
                self._latencies.append(causes)
            elif len(self._through) < MOST_FRAMES:
                return
            self._through.popleft()

    def _latency(self) -> Mapping[Cause, float] | None:
        recent = list(self._latencies)[-30:]
        return {cause: float(np.mean([causes[cause] for causes in recent])) for cause in CAUSES} if recent else None


def draw(picture: Pixels, numbers: Numbers | None) -> Pixels:
    """The picture as it is shown, (H, W, 3) uint8 RGB, with the numbers on a dark band along its lower edge."""
    import cv2

    height, width = picture.shape[:2]
    scale = max(LEAST_WIDTH_PX / width, 1.0) if width < LEAST_WIDTH_PX else min(1.0, MOST_WIDTH_PX / width)
    kind = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
    size = (round(width * scale), max(1, round(height * scale)))
    shown: Pixels = (
        picture.copy() if scale == 1 else np.ascontiguousarray(cv2.resize(picture, size, interpolation=kind))
    )
    if numbers is None:
        return shown
    lines = _wrapped([_picture_parts(numbers), _latency_parts(numbers)], shown.shape[1])
    band = min(shown.shape[0], LINE_PX * len(lines) + MARGIN_PX + (BAR_PX if numbers.latency_ms else 0))
    shown[-band:] = shown[-band:] // 4
    for number, parts in enumerate(lines):
        _write(shown, parts, shown.shape[0] - band + LINE_PX * (number + 1) - 4)
    if numbers.latency_ms:
        _bar(shown, numbers.latency_ms)
    return shown


_Part = tuple[str, tuple[int, int, int]]


def _picture_parts(numbers: Numbers) -> list[_Part]:
    parts: list[_Part] = [(f"frame {numbers.frame_id}", INK)]
    if numbers.kbps is not None:
        parts.append((f"{numbers.kbps:.0f} kbit/s", INK))
    if numbers.bpp is not None:
        parts.append((f"{numbers.bpp:.3f} bpp", QUIET))
        psnr_db = numbers.psnr_db
        parts.append(("PSNR unknown here" if psnr_db is None else f"PSNR {psnr_db:.2f} dB", INK))
    if numbers.paired is not None:
        parts.append(("with side view" if numbers.paired else "no side view", QUIET))
    return parts


def _latency_parts(numbers: Numbers) -> list[_Part]:
    if numbers.latency_ms is None:
        return [("latency unknown yet", QUIET)]
    total = sum(numbers.latency_ms.values())
    causes = [(f"{cause} {numbers.latency_ms[cause]:.0f}", COLOURS[cause]) for cause in CAUSES]
    return [(f"latency {total:.0f} ms:", INK), *causes]


def _wrapped(lines: list[list[_Part]], width: int) -> list[list[_Part]]:
    """The lines, those that are too long for a picture of this width as several."""
    wrapped: list[list[_Part]] = []
    for parts in lines:
        x, row = MARGIN_PX, list[_Part]()
        for part in parts:
            if row and x + _width(part[0]) > width - MARGIN_PX:
                wrapped.append(row)
                x, row = MARGIN_PX, []
            row.append(part)
            x += _width(part[0]) + GAP_PX
        wrapped.append(row)
    return wrapped


def _width(text: str) -> int:
    import cv2

    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, FONT_SIZE, 1)[0][0])


def _write(shown: Pixels, parts: list[_Part], baseline: int) -> None:
    import cv2

    x = MARGIN_PX
    for text, colour in parts:
        cv2.putText(shown, text, (x, baseline), cv2.FONT_HERSHEY_SIMPLEX, FONT_SIZE, colour, 1, cv2.LINE_AA)
        x += _width(text) + GAP_PX


def _bar(shown: Pixels, latency_ms: Mapping[Cause, float]) -> None:
    """The causes along the lower edge, as wide as their shares."""
    shares = [max(0.0, latency_ms[cause]) for cause in CAUSES]
    total = sum(shares)
    if total <= 0:
        return
    edges = np.round(np.cumsum([0.0, *shares]) / total * shown.shape[1]).astype(int)
    for cause, begin, end in zip(CAUSES, edges, edges[1:], strict=False):
        shown[-BAR_PX:, begin:end] = COLOURS[cause]
