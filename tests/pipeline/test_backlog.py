"""How many live frames may be under way, by the pace of the decoder's node."""

from __future__ import annotations

import pytest

from pipeline.backlog import LEAST, Backlog

MS = 1_000_000


def run(step_ms: int, frames: int = 20, *, max_age_ms: int = 1000) -> tuple[Backlog, list[int]]:
    """A decoder that needs `step_ms` a frame, and a source that has always one; the age of each frame, ms."""
    backlog, now_ns, queue, ages, entered = Backlog(max_age_ms * MS), 0, [], [], 0
    while len(ages) < frames:
        while not backlog.full:
            backlog.add(entered, now_ns)
            queue.append((entered, now_ns))
            entered += 1
        now_ns += step_ms * MS
        frame_id, added_ns = queue.pop(0)
        backlog.settle(frame_id, now_ns)
        ages.append((now_ns - added_ns) // MS)
    return backlog, ages


@pytest.mark.parametrize(("step_ms", "oldest_ms"), [(20, 250), (80, 250), (120, 250), (240, 480), (400, 800)])
def test_frames_come_through_within_a_quarter_of_the_age_where_two_of_them_can(step_ms, oldest_ms):
    _, ages = run(step_ms)
    assert max(ages) <= oldest_ms


def test_a_slow_decoder_has_always_one_frame_that_waits():
    backlog, _ = run(5000)
    for frame_id in range(1000, 1000 + LEAST - 1):
        assert not backlog.full
        backlog.add(frame_id, 0)


def test_many_may_be_under_way_to_a_fast_decoder():
    _, ages = run(5, frames=300)
    assert max(ages) > 100


def test_an_outage_says_nothing_about_the_pace():
    backlog = Backlog(1000 * MS)
    for frame_id in range(8):
        backlog.add(frame_id, 0)
        backlog.settle(frame_id, (frame_id + 1) * 10 * MS)
    backlog.add(8, 100 * MS)
    backlog.settle(8, 60_000 * MS)
    backlog.add(9, 60_000 * MS)
    backlog.add(10, 60_000 * MS)
    assert backlog.full
    backlog.forget_pace()
    backlog.settle(9, 60_010 * MS)
    backlog.settle(10, 60_020 * MS)
    for frame_id in range(11, 14):
        backlog.add(frame_id, 60_020 * MS)
    assert not backlog.full
