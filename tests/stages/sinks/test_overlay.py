"""The numbers on a picture: where they come from, and that they fit."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.latency import CAUSES
from pipeline.ledger import Ledger
from pipeline.types import Decoded, Frame, Packet
from stages.sinks.overlay import BAR_PX, COLOURS, LINE_PX, Numbers, Tally, draw
from stages.sinks.overlay import _latency_parts as latency_parts
from stages.sinks.overlay import _picture_parts as picture_parts


def decoded(i: int, size: int = 1154, *, side: bool = True) -> Decoded:
    frame = Frame(np.full((48, 64, 3), 200, np.uint8), "left", i, i * 10**8, 0)
    packet = Packet(i, "left", "primary", i * 10**8, 0, b"model-id", 64, 48, 1.0, bytes(size))
    return Decoded(frame, frame if side else None, None, None, packet)


def through(ledger: Ledger, i: int, **seconds: float) -> None:
    ledger.frame_in(i, i * 10**8)
    ledger.note(i, **seconds)
    ledger.frame_out(i)


def test_the_bitrate_is_that_of_the_last_two_seconds_with_headers():
    tally = Tally(Ledger())
    for i in range(50):
        tally.add(decoded(i, size=9999 if i < 25 else 1154))
    numbers = tally.numbers(decoded(49))
    assert numbers.kbps == pytest.approx(10 * (1154 + 96) * 8 / 1000)
    assert numbers.bpp == pytest.approx(8 * 1154 / (48 * 64))
    tally.add(decoded(0))
    assert tally.numbers(decoded(0)).kbps is None, "another encoder has begun"


def test_quality_and_the_side_view_are_said_where_they_are_known():
    ledger = Ledger()
    tally = Tally(ledger)
    words = [text for text, _ in picture_parts(tally.numbers(decoded(3)))]
    assert words == ["frame 3", "3.005 bpp", "PSNR unknown here", "with side view"]
    ledger.note(3, psnr_db=31.256)
    words = [text for text, _ in picture_parts(tally.numbers(decoded(3, side=False)))]
    assert words[2:] == ["PSNR 31.26 dB", "no side view"]


def test_latency_is_that_of_frames_whose_causes_are_all_known():
    ledger = Ledger()
    tally = Tally(ledger)
    tally.add(decoded(0))
    assert latency_parts(tally.numbers(decoded(0)))[0][0] == "latency unknown yet"
    through(ledger, 0, spent_decode_s=0.03, arrival_s=0.02)
    tally.add(decoded(1))
    assert tally.numbers(decoded(1)).latency_ms is None, "the encoder's node has not told its part"
    ledger.merge([{"frame_id": 0, "pts_ns": 0, "status": "out", "values": {"sender_encode_s": 0.015}}])
    tally.add(decoded(2))
    latency = tally.numbers(decoded(2)).latency_ms
    assert latency == pytest.approx(dict.fromkeys(CAUSES, 0) | {"encode": 15, "network": 5, "decode": 30})
    words = [text for text, _ in latency_parts(tally.numbers(decoded(2)))]
    assert words == ["latency 50 ms:", "capture 0", "pair 0", "encode 15", "network 5", "decode 30", "show 0"]


def test_a_frame_that_is_never_explained_does_not_stop_the_others(monkeypatch):
    monkeypatch.setattr("stages.sinks.overlay.MOST_FRAMES", 4)
    ledger = Ledger()
    tally = Tally(ledger)
    for i in range(8):
        tally.add(decoded(i))
        if i:
            through(ledger, i, spent_decode_s=0.03)
    assert tally.numbers(decoded(9)).latency_ms["decode"] == pytest.approx(30)


@pytest.mark.parametrize(
    ("size", "shown"), [((64, 48), (640, 480)), ((640, 192), (640, 192)), ((2560, 720), (1280, 360))]
)
def test_the_picture_is_brought_to_a_size_for_a_screen_and_stays_as_it_was(size, shown):
    picture = np.full((size[1], size[0], 3), 200, np.uint8)
    drawn = draw(picture, Numbers(7, 123.0, 0.1, 30.0, True, dict.fromkeys(CAUSES, 10.0)))
    assert drawn.shape == (shown[1], shown[0], 3)
    assert picture.min() == picture.max() == 200
    assert drawn[0, 0].tolist() == [200] * 3
    assert drawn[-BAR_PX - LINE_PX, -1].tolist() == [50] * 3, "a dark band"
    assert len(np.unique(drawn[-1], axis=0)) == len(COLOURS), "a bar of all causes"


def test_without_numbers_the_picture_is_shown_as_it_is():
    picture = np.random.default_rng(0).integers(0, 255, (700, 700, 3), np.uint8)
    assert np.array_equal(draw(picture, None), picture)


def test_a_line_that_is_too_long_goes_on_in_the_next_one():
    many = Numbers(123456, 12345.0, 12.345, 30.0, True, dict.fromkeys(CAUSES, 123456.0))
    dark = [int((draw(np.full((480, 640, 3), 200, np.uint8), n)[:, -1, 0] == 50).sum()) for n in (Numbers(1), many)]
    assert dark[1] >= dark[0] + LINE_PX
