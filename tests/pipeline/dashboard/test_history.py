"""Rings of buckets: what falls where, and that they never grow."""

from __future__ import annotations

import pytest

from pipeline.dashboard.history import JUMP_NS, LIVE_LEVELS, Axis, History, levels_for

S = 1_000_000_000


def test_amounts_fall_into_the_bucket_of_their_time_in_every_level():
    history = History(((S, 5), (10 * S, 3)), 2)
    for at_s, size in ((0.0, 1.0), (0.999, 2.0), (1.0, 4.0), (12.0, 8.0)):
        history.add(round(at_s * S), (size, 1.0))
    fine, coarse = history.levels
    assert fine.rows() == [(12, [8.0, 1.0])]  # what is 5 s old has gone
    assert coarse.rows() == [(0, [7.0, 3.0]), (1, [8.0, 1.0])]


def test_news_are_the_buckets_that_changed_since():
    (level,) = History(((S, 5),), 1).levels
    level.add(0, [1.0])
    level.add(3 * S, [1.0])
    assert [place for place, _ in level.news()] == [0, 3]
    assert level.news() == []
    level.add(3 * S + 1, [2.0])
    assert level.news() == [(3, [3.0])]


def test_what_is_older_than_the_ring_is_forgotten_not_put_into_another_bucket():
    (level,) = History(((S, 5),), 1).levels
    level.add(20 * S, [1.0])
    level.add(15 * S, [7.0])
    level.add(16 * S, [2.0])
    assert level.rows() == [(16, [2.0]), (20, [1.0])]


def test_a_day_fits_and_nothing_grows_behind_it():
    history = History(LIVE_LEVELS, 1)
    sizes = []
    for day in (1, 2, 3):
        for second in range((day - 1) * 86_400, day * 86_400, 7):
            history.add(second * S, (1.0,))
        sizes.append([len(level.rows()) for level in history.levels])
        for level in history.levels:
            level.news()
    assert sizes[1] == sizes[2]
    assert [len(level._sums) for level in history.levels] == [300, 360, 288]
    assert history.levels[2].rows()[0][0] * 300 == 2 * 86_400  # the oldest is a day old


def test_time_goes_on_where_a_recording_begins_anew():
    axis = Axis()
    first = [axis.at(7 * S + i * S // 10) for i in range(200)]
    again = [axis.at(7 * S + i * S // 10) for i in range(3)]
    assert first[:2] == [0, S // 10]
    assert again == [first[-1] + S // 10 * (i + 1) for i in range(3)]


def test_frames_out_of_order_stay_in_their_place():
    axis = Axis()
    assert [axis.at(t * S) for t in (100, 103, 101, 104)] == [0, 3 * S, S, 4 * S]


@pytest.mark.parametrize("pts_ns", [2**63 - 1, -(2**63), 5 + 2 * JUMP_NS])
def test_absurd_times_do_not_move_the_axis_away(pts_ns):
    axis = Axis()
    axis.at(0)
    axis.at(S)
    assert axis.at(pts_ns) <= 3 * S
    assert axis.at(S + S // 10) <= 5 * S


@pytest.mark.parametrize("seconds", [0, 1, 149, 151, 3_600, 86_400, 10**7, 10**9])
def test_a_recording_of_any_length_fits_into_its_level(seconds):
    ((width_ns, count),) = levels_for(seconds * S)
    assert seconds * S // width_ns < count
    assert seconds < 150 or seconds * S // width_ns > count / 7
