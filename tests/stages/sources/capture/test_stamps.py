"""Times of capture from lists of arrivals."""

from __future__ import annotations

import numpy as np
import pytest

from stages.sources.capture.stamps import WINDOW_NS, Stamps

MS = 1_000_000
S = 1_000_000_000


def _run(stamps: Stamps, pts: list[int], delays: list[int], origin: int = 100 * S) -> list[int]:
    """Stamps of frames that arrive `delays` after they were taken at origin + pts."""
    return [stamps.stamp(origin + p + d, p) for p, d in zip(pts, delays, strict=True)]


def test_arrivals_count_where_the_stream_has_no_times():
    stamps = Stamps()
    assert [stamps.stamp(t, None) for t in (5, 9, 20)] == [5, 9, 20]
    assert stamps.late_ns == 0


def test_jitter_of_the_network_does_not_show_in_the_stamps():
    rng = np.random.default_rng(0)
    pts = [i * 40 * MS for i in range(200)]
    delays = [3 * MS, *(3 * MS + int(d) for d in rng.exponential(20 * MS, 199))]
    assert _run(Stamps(), pts, delays) == [100 * S + p + 3 * MS for p in pts]


def test_stamps_follow_the_frame_that_came_fastest():
    stamps = Stamps()
    taken = _run(stamps, [0, 40 * MS, 80 * MS], [30 * MS, 10 * MS, 25 * MS])
    assert taken == [100 * S + 30 * MS, 100 * S + 50 * MS, 100 * S + 90 * MS]
    assert stamps.late_ns == 15 * MS


def test_a_burst_of_frames_that_had_waited_keeps_the_order():
    """What was buffered before the first read arrives all at once; the last of it tells the truth."""
    stamps = Stamps()
    pts = [i * 40 * MS for i in range(12)]
    taken = [stamps.stamp(100 * S, p) for p in pts] + [stamps.stamp(100 * S + 40 * MS, 12 * 40 * MS)]
    assert taken == sorted(set(taken))
    assert taken[-1] == 100 * S + 40 * MS


def test_a_reopened_camera_is_anchored_anew():
    stamps = Stamps()
    _run(stamps, [0, 40 * MS], [0, 0])
    stamps.restart()
    assert _run(stamps, [900 * S, 900 * S + 40 * MS], [0, 0], origin=-700 * S) == [200 * S, 200 * S + 40 * MS]
    assert not stamps.jumped


def test_times_that_run_backwards_anchor_the_stream_anew():
    stamps = Stamps()
    last = _run(stamps, [50 * S, 50 * S + 40 * MS], [0, 0])[-1]
    begun_anew = [stamps.stamp(last + (i + 1) * 40 * MS, i * 40 * MS) for i in range(3)]
    assert begun_anew == [last + 40 * MS, last + 80 * MS, last + 120 * MS]


def test_late_frames_do_not_move_the_anchor():
    """What lay in a buffer when the camera fell silent comes seconds later, all at once."""
    stamps = Stamps()
    pts = [i * 40 * MS for i in range(5)]
    taken = _run(stamps, pts, [0, 0, 2500 * MS, 2480 * MS, 2460 * MS])
    assert taken == [100 * S + p for p in pts]
    assert not stamps.jumped


def test_a_stream_that_remains_late_is_anchored_anew_and_told_once():
    stamps = Stamps()
    told = []
    for i in range(100):
        stamps.stamp(100 * S + i * 40 * MS + (5 * S if i >= 4 else 0), i * 40 * MS)
        told.append(stamps.jumped)
    assert told == [i == 4 + 26 for i in range(100)]
    assert stamps.late_ns == 0


def test_stamps_ascend_when_the_anchor_falls():
    stamps = Stamps()
    taken = _run(stamps, [0, 40 * MS, 80 * MS], [500 * MS, 0, 0])
    assert taken == sorted(set(taken))


@pytest.mark.parametrize("ppm", [100, -100])
def test_a_clock_that_drifts_is_followed_and_shown(ppm):
    """Ten minutes: without a window, stamps would lag by 60 ms where the camera's clock is slow."""
    stamps = Stamps()
    pts = [i * 100 * MS for i in range(6000)]
    arrivals = [100 * S + p + p * ppm // 1_000_000 for p in pts]
    taken = [stamps.stamp(a, p) for a, p in zip(arrivals, pts, strict=True)]
    assert max(abs(t - a) for t, a in zip(taken, arrivals, strict=True)) <= WINDOW_NS * 100 // 1_000_000
    assert stamps.drift_ns / MS == pytest.approx(ppm * 0.6, abs=4)
