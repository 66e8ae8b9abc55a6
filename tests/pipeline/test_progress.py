"""Progress: the numbers in the line, and where it is written."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from pipeline import progress
from pipeline.log import CLEAR, Terminal
from pipeline.meter import Meter
from pipeline.progress import Progress
from pipeline.stage import Context
from pipeline.types import Decoded, Frame, Packet


class FakeClock:
    now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float, until: object = None) -> None:
        self.now_ns += round(seconds * 1e9)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def decoded(frame_id: int) -> Decoded:
    pts_ns = frame_id * 100_000_000
    packet = Packet(frame_id, "left", "primary", pts_ns, 0, b"12345678", 2, 2, 0.0, bytes(125))
    picture = Frame(np.zeros((2, 2, 3), np.uint8), "left", frame_id, pts_ns, 0)
    return Decoded(picture, None, None, None, packet)


@pytest.fixture
def node(tmp_path) -> Context:
    return Context("decoder", tmp_path, clock=FakeClock())


def test_the_line_says_frames_speed_bitrate_and_time_left(node):
    meter = Meter(node, relay=True)
    shown = Progress(node, meter, Terminal(io.StringIO()))
    assert shown.line() == ""
    node.facts["expected_frames"] = 205
    for i in range(5):
        meter.left(decoded(i))
        node.clock.sleep(0.5)
    # 4 intervals in 2.5 s; 125 bytes ten times a second; 200 frames at 1.6 fps
    assert shown.line() == "5/205 frames, 1.6 fps, 10.0 kbit/s, 2:05 left"
    node.facts["expected_frames"] = None
    assert shown.line() == "5 frames, 1.6 fps, 10.0 kbit/s"


def test_latency_counts_from_taking_by_this_machines_clock(node):
    meter, item = Meter(node, relay=True), decoded(0)
    node.clock.now_ns = 50_000_000
    meter.left(replace(item, packet=replace(item.packet, taken_ns=-10_000_000, clock_offset_ns=20_000_000)))
    assert node.ledger.rows()[0].values["latency_ms"] == 40


def test_a_terminal_has_one_live_line_below_the_others():
    stream = Tty()
    terminal = Terminal(stream)
    terminal.live("1 frame")
    terminal.line("a log line")
    terminal.live("")
    terminal.line("the end")
    assert stream.getvalue() == f"{CLEAR}1 frame{CLEAR}a log line\n1 frame{CLEAR}{CLEAR}the end\n"


def test_elsewhere_there_is_a_plain_line_now_and_then(node, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_S", 0.01)
    meter, stream = Meter(node, relay=True), io.StringIO()
    meter.left(decoded(0))
    with Progress(node, meter, Terminal(stream)) as shown:
        while not stream.getvalue():
            shown._end.wait(0.01)
        shown._end.wait(0.05)
    assert stream.getvalue() == "1 frames\n"


def test_a_stream_that_is_gone_does_not_end_the_run():
    stream = io.StringIO()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.write("x")
    gone = Terminal.__new__(Terminal)
    gone.__init__(io.StringIO())
    gone._stream.close()
    gone.line("x")
