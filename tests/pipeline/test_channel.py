"""Channels: order, back-pressure, what `latest` gives up, ends."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pipeline.channel import Aborted, Channel


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_items_come_out_in_order_and_end_with_close():
    channel: Channel[int] = Channel(capacity=2)
    thread = in_thread(lambda: ([channel.put(i) for i in range(100)], channel.close()))
    assert list(channel) == list(range(100))
    thread.join(5)
    assert channel.depth == 0


def test_put_waits_while_the_channel_is_full():
    channel: Channel[int] = Channel(capacity=1)
    channel.put(1)
    through = threading.Event()
    thread = in_thread(lambda: (channel.put(2), through.set()))
    assert not through.wait(0.05)
    assert next(iter(channel)) == 1
    assert through.wait(5)
    thread.join(5)


def test_latest_gives_up_the_oldest_and_says_so():
    dropped: list[int] = []
    channel = Channel(capacity=1, policy="latest", dropped=dropped.append)
    for i in (1000, 2000, 3000):
        channel.put(i)
    channel.close()
    assert list(channel) == [3000]
    assert dropped == [1000, 2000]


def test_latest_keeps_the_views_of_a_moment_together():
    dropped: list[tuple[int, str]] = []
    channel = Channel(capacity=1, policy="latest", dropped=dropped.append, group=lambda item: item[0])
    taken = iter(channel)
    channel.put((1, "left"))
    channel.put((1, "right"))
    assert next(taken) == (1, "left")
    for moment in (2, 3):
        channel.put((moment, "left"))
        channel.put((moment, "right"))
    channel.close()
    assert list(taken) == [(1, "right"), (3, "left"), (3, "right")]
    assert dropped == [(2, "left"), (2, "right")]


def test_latest_gives_up_the_second_view_of_a_moment_that_is_gone():
    dropped: list[tuple[int, str]] = []
    channel = Channel(capacity=1, policy="latest", dropped=dropped.append, group=lambda item: item[0])
    channel.put((1, "left"))
    channel.put((2, "left"))
    channel.put((1, "right"))
    channel.close()
    assert list(channel) == [(2, "left")]
    assert dropped == [(1, "left"), (1, "right")]


def test_a_channel_is_wanted_when_its_last_item_is_dealt_with():
    channel: Channel[int] = Channel(capacity=2)
    wanted, busy = threading.Event(), threading.Event()
    in_thread(lambda: (channel.wait_until_wanted(), wanted.set()))
    assert not wanted.wait(0.02)
    in_thread(lambda: [busy.wait(5) for _ in channel])
    assert wanted.wait(5)
    channel.put(1)
    wanted.clear()
    in_thread(lambda: (channel.wait_until_wanted(), wanted.set()))
    assert not wanted.wait(0.02)
    busy.set()
    assert wanted.wait(5)


@pytest.mark.parametrize("side", ["put", "take", "want"])
def test_abort_ends_whoever_waits(side):
    channel: Channel[int] = Channel(capacity=1)
    if side == "put":
        channel.put(1)
    ended = threading.Event()

    def wait():
        with pytest.raises(Aborted):
            {"put": lambda: channel.put(2), "take": lambda: list(channel), "want": channel.wait_until_wanted}[side]()
        ended.set()

    in_thread(wait)
    assert not ended.wait(0.02)
    channel.abort()
    assert ended.wait(5)
    assert channel.depth == 0


def test_a_channel_without_room_is_refused():
    with pytest.raises(ValueError, match="capacity of 0"):
        Channel(capacity=0)
