"""How far a run is: one live line on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import threading

from pipeline.log import Terminal
from pipeline.meter import Meter
from pipeline.stage import Context

__all__ = ["Progress"]

LIVE_S = 0.5
PLAIN_S = 10.0


class Progress:
    """Shows, from `with` to its end, what a meter counts."""

    def __init__(self, context: Context, meter: Meter, terminal: Terminal) -> None:
        self._context, self._meter, self._terminal = context, meter, terminal
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        self._terminal.live("")

    def line(self) -> str:
        """Frames, frames per second, kbit per second of the recording's time, time left; '' before the first frame."""
        meter, expected = self._meter, self._context.facts.get("expected_frames")
        done = meter.frames_out
        if not done:
            return ""
        of = f"/{expected}" if expected else ""
        parts = [f"{done}{of} frames", f"{fps:.1f} fps" if (fps := self._fps()) else ""]
        parts.append(f"{kbps:.1f} kbit/s" if (kbps := self._kbps()) else "")
        parts.append(f"{_clock((expected - done) / fps)} left" if expected and expected > done and fps else "")
        return ", ".join(filter(None, parts))

    def _show(self) -> None:
        shown = ""
        while not self._end.wait(LIVE_S if self._terminal.interactive else PLAIN_S):
            line = self.line()
            if self._terminal.interactive:
                self._terminal.live(line)
            elif line != shown:
                self._terminal.line(line)
            shown = line

    def _fps(self) -> float:
        first_ns, done = self._meter.first_out_ns, self._meter.frames_out
        spent_ns = self._context.clock.monotonic_ns() - first_ns if first_ns is not None else 0
        return (done - 1) * 1e9 / spent_ns if spent_ns > 0 else 0.0

    def _kbps(self) -> float:
        first_ns, last_ns = self._meter.pts_ns or (0, 0)
        done = self._meter.frames_out
        if done < 2 or last_ns <= first_ns:
            return 0.0
        seconds = (last_ns - first_ns) / 1e9 * done / (done - 1)
        return self._meter.payload_bytes * 8 / 1000 / seconds


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
