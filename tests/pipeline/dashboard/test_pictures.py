"""When a picture is made, and which."""

from __future__ import annotations

import time

import pytest
from simulated import decoded, jpeg

from pipeline.dashboard import pictures
from pipeline.dashboard.pictures import Composite, Pictures
from pipeline.types import Frame, Packet

S = 1_000_000_000


@pytest.fixture
def made(monkeypatch) -> list[int]:
    """The frames that pictures were made of; the processor time of the node does not count."""
    monkeypatch.setattr(pictures, "SHARE", 1e9)
    return []


@pytest.fixture
def shown(made) -> Pictures:
    def compose(item) -> Composite:
        made.append(item.frame.frame_id if not isinstance(item, Frame) else item.frame_id)
        return jpeg(item)

    kept = Pictures(compose)
    kept._base_ns = -S
    return kept


def test_a_picture_is_made_of_the_newest_item_once_a_second(shown, made):
    for i in range(3):
        shown.offer(decoded(i, sampled=False))
    assert [shown.turn(t) for t in (S, S + 1, 3 * S // 2)] == [True, False, False]
    assert not shown.turn(3 * S)  # nothing new has passed
    shown.offer(decoded(9, sampled=False))
    assert shown.turn(3 * S)
    assert (made, shown.number) == ([2, 9], 2)


def test_a_frame_that_was_decoded_both_ways_is_shown_rather_than_a_newer_one(shown, made):
    shown.offer(decoded(1))
    shown.offer(decoded(2, sampled=False))
    shown.turn(S)
    shown.offer(decoded(3, sampled=False))
    shown.turn(3 * S)
    assert made == [1, 3]


def test_an_encoder_shows_what_comes_in_and_packets_are_no_pictures(shown, made):
    shown.offer(Packet(1, "left", "primary", 0, 0, b"x" * 8, 4, 4, 1.0, b""))
    assert not shown.turn(S)
    shown.offer(decoded(5).frame)
    assert shown.turn(S)
    assert made == [5]


def test_the_last_pictures_can_still_be_fetched(shown):
    for i in range(1, 6):
        shown.offer(decoded(i))
        assert shown.turn(2 * i * S)
    assert [shown.picture(number) is not None for number in range(8)] == [False] * 3 + [True] * 3 + [False] * 2


def test_pictures_take_no_more_than_their_share_of_the_processor(monkeypatch):
    monkeypatch.setattr(pictures, "EVERY_NS", 0)
    spent = 0

    def slow(item) -> Composite:
        nonlocal spent
        begin = time.thread_time_ns()
        while time.thread_time_ns() - begin < 2_000_000:
            pass
        spent += time.thread_time_ns() - begin
        return jpeg(item)

    kept, begin, until = Pictures(slow), time.process_time_ns(), time.monotonic() + 0.5
    while time.monotonic() < until:
        kept.offer(decoded())
        kept.turn(time.monotonic_ns())
    assert 0 < spent <= 0.003 * (time.process_time_ns() - begin) + 4_000_000
