"""The clock offset from four stamps."""

from __future__ import annotations

from pipeline.offset import ClockOffset

SECOND = 1_000_000_000


def exchange(offset, *, ahead, there, back, now):
    sent = 5 * SECOND + now
    received = sent + there + ahead
    answered = received + 1000
    offset.add(sent, received, answered, answered - ahead + back, now)


def test_offset_is_zero_as_long_as_nothing_is_known():
    assert ClockOffset().ns == 0


def test_sample_of_least_round_trip_wins_over_delayed_ones():
    offset = ClockOffset()
    exchange(offset, ahead=40_000_000, there=9_000_000, back=100_000, now=0)
    exchange(offset, ahead=40_000_000, there=200_000, back=200_000, now=SECOND)
    exchange(offset, ahead=40_000_000, there=100_000, back=30_000_000, now=2 * SECOND)
    assert offset.ns == 40_000_000


def test_sample_is_forgotten_after_thirty_seconds():
    offset = ClockOffset()
    exchange(offset, ahead=-7_000, there=10, back=10, now=0)
    exchange(offset, ahead=9_000, there=500, back=500, now=30 * SECOND)
    assert offset.ns == -7_000
    exchange(offset, ahead=9_000, there=500, back=500, now=31 * SECOND)
    assert offset.ns == 9_000
