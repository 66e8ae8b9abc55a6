"""When a camera counts as lost and when it is tried again, by a clock that the test turns."""

from __future__ import annotations

import pytest

from stages.sources.capture.watchdog import FIRST_FRAME_NS, RETRY_MAX_NS, RETRY_MIN_NS, TELL_NS, Watchdog

S = 1_000_000_000


def _live(at: int = 0) -> Watchdog:
    watchdog = Watchdog(silence_ns=S)
    watchdog.opened(at)
    assert watchdog.heard(at) == 0
    return watchdog


def test_a_live_camera_is_silent_after_its_silence_and_not_before():
    watchdog = _live()
    assert not watchdog.is_silent(S)
    assert watchdog.is_silent(S + 1)


def test_the_first_frame_may_take_longer():
    watchdog = Watchdog(silence_ns=S)
    watchdog.opened(5 * S)
    assert not watchdog.is_silent(5 * S + FIRST_FRAME_NS)
    assert watchdog.is_silent(5 * S + FIRST_FRAME_NS + 1)


def test_a_camera_that_is_down_is_not_silent_too():
    watchdog = _live()
    watchdog.lost(2 * S)
    assert not watchdog.is_silent(100 * S)


def test_an_outage_lasts_from_the_last_frame_to_the_next_one():
    watchdog = _live(10 * S)
    watchdog.lost(11 * S)
    assert watchdog.down_ns(12 * S) == 2 * S
    watchdog.opened(14 * S)
    assert watchdog.down_ns(15 * S) == 5 * S
    assert watchdog.reopened == 0
    assert watchdog.heard(16 * S) == 6 * S
    assert (watchdog.reopened, watchdog.down_ns(99 * S)) == (1, 6 * S)
    assert watchdog.heard(17 * S) == 0


def test_opening_without_a_frame_does_not_end_an_outage():
    watchdog = _live()
    for i in range(1, 5):
        watchdog.lost(i * S)
        watchdog.opened(i * S)
    assert watchdog.heard(10 * S) == 10 * S
    assert watchdog.reopened == 1


@pytest.mark.parametrize(
    ("outage_s", "wait_ns"), [(0, RETRY_MIN_NS), (1, RETRY_MIN_NS), (5, S // 2), (60, 6 * S), (3600, RETRY_MAX_NS)]
)
def test_a_camera_is_tried_again_after_a_tenth_of_its_outage(outage_s, wait_ns):
    watchdog = _live()
    now = outage_s * S
    watchdog.lost(now)
    assert watchdog.retry_in_ns(now) == wait_ns
    assert watchdog.retry_in_ns(now + wait_ns - 1) == 1
    assert watchdog.retry_in_ns(now + wait_ns + S) == 0


def test_five_seconds_without_a_camera_cost_at_most_one_more():
    """Tried again and again from the moment it was lost; opening itself takes no time here."""
    watchdog, now = _live(), S
    watchdog.lost(now)
    while now < 6 * S:
        now += watchdog.retry_in_ns(now)
        watchdog.lost(now)
    assert now <= 7 * S


def test_an_outage_is_told_when_it_begins_and_then_now_and_then():
    watchdog = _live()
    told = [now for now in range(S, 3 * TELL_NS, S) if watchdog.lost(now)]
    assert told == [S, S + TELL_NS, S + 2 * TELL_NS]
    watchdog.heard(4 * TELL_NS)
    assert watchdog.lost(4 * TELL_NS + S)
