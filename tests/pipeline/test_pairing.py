from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.pairing import Match, Pairing, Policy, Stamp

MS = 1_000_000
PERIOD = 100 * MS

Pairs = list[tuple[int, int | None]]


def stamps(ids: list[int] | range, offset: int = 0, period: int = PERIOD) -> list[Stamp]:
    return [Stamp(i, i * period + offset) for i in ids]


def join(pairing: Pairing[Stamp, Stamp], primaries: list[Stamp], sides: list[Stamp]) -> list[Match[Stamp, Stamp]]:
    """Pull sides only as far as each primary needs them, as a nested recording is."""
    coming, matches = iter(sides), []
    for primary in primaries:
        pairing.add_primary(primary, primary)
        matches += pairing.decide()
        while pairing.waiting:
            side = next(coming, None)
            if side is None:
                pairing.end_sides()
            else:
                pairing.add_side(side, side)
            matches += pairing.decide()
    return matches


def ids(matches: list[Match[Stamp, Stamp]]) -> Pairs:
    return [(m.primary.frame_id, m.side.frame_id if m.side else None) for m in matches]


@pytest.mark.parametrize("policy", ["exact", "nearest", "latest"])
def test_every_policy_pairs_equal_streams(policy: Policy) -> None:
    matches = join(Pairing(policy), stamps(range(20)), stamps(range(20)))
    assert ids(matches) == [(i, i) for i in range(20)]


def test_exact_leaves_lost_side_frames_unpaired() -> None:
    matches = join(Pairing("exact"), stamps(range(6)), stamps([0, 1, 4, 5]))
    assert ids(matches) == [(0, 0), (1, 1), (2, None), (3, None), (4, 4), (5, 5)]


def test_exact_skips_side_frames_of_lost_primaries() -> None:
    assert ids(join(Pairing("exact"), stamps([0, 3, 4]), stamps(range(6)))) == [(0, 0), (3, 3), (4, 4)]


def test_nearest_takes_the_closest_when_neighbours_compete() -> None:
    sides = [Stamp(0, 60 * MS), Stamp(1, 130 * MS), Stamp(2, 190 * MS)]
    matches = join(Pairing("nearest", tolerance_ns=50 * MS), stamps([1, 2]), sides)
    assert ids(matches) == [(1, 1), (2, 2)]


@pytest.mark.parametrize(("offset_ms", "paired"), [(50, True), (-50, True), (51, False), (-51, False)])
def test_nearest_never_exceeds_the_tolerance(offset_ms: int, paired: bool) -> None:
    sides = [Stamp(7, 10 * PERIOD + offset_ms * MS)]
    matches = join(Pairing("nearest", tolerance_ns=50 * MS), stamps([10]), sides)
    assert ids(matches) == [(10, 7 if paired else None)]


def test_nearest_uses_a_frame_of_a_slow_side_camera_twice() -> None:
    sides = stamps(range(4), period=2 * PERIOD)
    matches = join(Pairing("nearest", tolerance_ns=PERIOD), stamps(range(4)), sides)
    assert ids(matches) == [(0, 0), (1, 0), (2, 1), (3, 1)]


def test_latest_takes_what_is_not_after_the_primary() -> None:
    matches = join(Pairing("latest", max_age_ns=PERIOD), stamps(range(1, 4)), stamps(range(4), offset=1))
    assert ids(matches) == [(1, 0), (2, 1), (3, 2)]


def test_latest_refuses_what_is_too_old() -> None:
    matches = join(Pairing("latest", max_age_ns=PERIOD), stamps([1, 2, 3]), stamps([0, 1, 9]))
    assert ids(matches) == [(1, 1), (2, 1), (3, None)]


def test_an_early_end_leaves_the_rest_unpaired() -> None:
    matches = join(Pairing("exact"), stamps(range(5)), stamps(range(2)))
    assert ids(matches) == [(0, 0), (1, 1), (2, None), (3, None), (4, None)]


def test_a_burst_of_sides_before_the_primaries_is_kept() -> None:
    pairing: Pairing[int, int] = Pairing("exact", max_sides=8)
    for i in range(8):
        pairing.add_side(Stamp(i, i), i)
    for i in range(8):
        pairing.add_primary(Stamp(i, i), i)
    assert [(m.primary, m.side) for m in pairing.decide()] == [(i, i) for i in range(8)]


def test_a_burst_of_primaries_waits_for_the_sides() -> None:
    pairing: Pairing[int, int] = Pairing("exact")
    for i in range(3):
        pairing.add_primary(Stamp(i, i), i)
    assert list(pairing.decide()) == []
    pairing.add_side(Stamp(2, 2), 2)
    assert [(m.primary, m.side) for m in pairing.decide()] == [(0, None), (1, None), (2, 2)]


def test_a_primary_waits_no_longer_than_max_wait() -> None:
    pairing: Pairing[int, int] = Pairing("nearest", max_wait_ns=100)
    pairing.add_primary(Stamp(0, 0), 0, now_ns=1000)
    assert list(pairing.decide(now_ns=1099)) == []
    assert pairing.wait_left_ns(1099) == 1
    assert [m.side for m in pairing.decide(now_ns=1100)] == [None]


def test_only_so_many_primaries_are_held() -> None:
    pairing: Pairing[int, int] = Pairing("exact", max_primaries=2)
    out = []
    for i in range(5):
        pairing.add_primary(Stamp(i, i), i)
        out += [m.primary for m in pairing.decide()]
    assert out == [0, 1, 2]
    assert pairing.waiting == 2


def test_live_latest_is_decided_at_once_by_the_time_given() -> None:
    pairing: Pairing[int, int] = Pairing("latest", live=True, max_age_ns=100)
    pairing.add_primary(Stamp(0, 0), 0)
    assert [m.side for m in pairing.decide(age_now_ns=500)] == [None]
    pairing.add_side(Stamp(0, 520), 7)
    for now, side in ((600, 7), (620, 7), (621, None)):
        pairing.add_primary(Stamp(1, 1), 1)
        assert [m.side for m in pairing.decide(age_now_ns=now)] == [side]


def test_a_late_side_frame_is_used_if_it_still_fits() -> None:
    pairing: Pairing[int, int] = Pairing("nearest", tolerance_ns=30)
    pairing.add_side(Stamp(1, 90), 1)
    pairing.add_side(Stamp(0, 45), 0)
    pairing.add_primary(Stamp(0, 50), 0)
    assert [m.side for m in pairing.decide()] == [0]


def streams(draw: st.DrawFn) -> tuple[list[Stamp], list[Stamp]]:
    """Two cameras with losses, jitter, an offset, and perhaps an early end."""
    rng = random.Random(draw(st.integers(0, 1 << 30)))
    count, jitter = draw(st.integers(0, 40)), draw(st.integers(0, 45)) * MS
    offset, loss = draw(st.integers(-150, 150)) * MS, draw(st.sampled_from([0.0, 0.1, 0.5]))

    def one(shift: int, end: int) -> list[Stamp]:
        kept = [i for i in range(end) if rng.random() >= loss]
        return [Stamp(i, i * PERIOD + shift + rng.randint(0, jitter)) for i in kept]

    return one(0, count), one(offset, draw(st.integers(0, count)))


two_streams = st.composite(streams)()


@settings(max_examples=200, deadline=None)
@given(two_streams, st.sampled_from(["exact", "nearest", "latest"]), st.integers(0, 120))
def test_every_primary_leaves_once_in_order_within_its_limits(
    both: tuple[list[Stamp], list[Stamp]], policy: Policy, limit_ms: int
) -> None:
    primaries, sides = both
    limit = limit_ms * MS
    matches = join(Pairing(policy, tolerance_ns=limit, max_age_ns=limit), primaries, sides)
    assert [m.primary for m in matches] == primaries
    for match in matches:
        offset = match.side.time_ns - match.primary.time_ns if match.side else 0
        match policy:
            case "exact":
                assert (match.side is not None) == (match.primary.frame_id in {s.frame_id for s in sides})
                assert match.side is None or match.side.frame_id == match.primary.frame_id
            case "nearest":
                gaps = [abs(s.time_ns - match.primary.time_ns) for s in sides]
                assert (match.side is not None) == (min(gaps, default=limit + 1) <= limit)
                assert match.side is None or abs(offset) == min(gaps)
            case "latest":
                ages = [match.primary.time_ns - s.time_ns for s in sides if s.time_ns <= match.primary.time_ns]
                assert (match.side is not None) == (min(ages, default=limit + 1) <= limit)
                assert match.side is None or -offset == min(ages)


@settings(max_examples=200, deadline=None)
@given(two_streams, st.integers(0, 1 << 30), st.sampled_from(["exact", "nearest", "latest"]))
def test_any_interleaving_with_bounds_loses_nothing(
    both: tuple[list[Stamp], list[Stamp]], seed: int, policy: Policy
) -> None:
    primaries, sides = list(both[0]), list(both[1])
    rng, now, out = random.Random(seed), 0, []
    pairing: Pairing[Stamp, Stamp] = Pairing(policy, max_wait_ns=200 * MS, max_primaries=4, max_sides=4, live=True)
    while primaries or sides:
        now += rng.randint(0, 120) * MS
        if primaries and (not sides or rng.random() < 0.5):
            primary = primaries.pop(0)
            pairing.add_primary(primary, primary, now)
        else:
            side = sides.pop(0)
            pairing.add_side(side, side)
        out += pairing.decide(now, now)
        assert pairing.waiting <= 4
    pairing.end_sides()
    out += pairing.decide(now, now)
    assert [m.primary for m in out] == both[0]


def live_pairing() -> Pairing[Stamp, Stamp]:
    return Pairing("nearest", tolerance_ns=50 * MS, max_wait_ns=30 * MS, live=True, wait_for_silent=False)


def test_a_silent_source_is_waited_for_once() -> None:
    pairing = live_pairing()
    first, second, third = stamps([1, 2, 3])
    pairing.add_primary(first, first, 0)
    assert (list(pairing.decide(29 * MS)), pairing.wait_left_ns(29 * MS)) == ([], MS)
    assert ids(list(pairing.decide(30 * MS))) == [(1, None)]
    pairing.add_primary(second, second, 31 * MS)
    assert pairing.wait_left_ns(31 * MS) == 0
    assert ids(list(pairing.decide(31 * MS))) == [(2, None)]
    pairing.add_side(Stamp(9, 0), Stamp(9, 0))
    pairing.add_primary(third, third, 40 * MS)
    assert pairing.wait_left_ns(40 * MS) == 30 * MS
    assert list(pairing.decide(40 * MS)) == []


def test_a_source_that_sends_is_waited_for_again_and_again() -> None:
    """Something came during the wait, only not the frame that was wanted."""
    pairing = live_pairing()
    for i in range(1, 4):
        primary = Stamp(i, i * PERIOD)
        pairing.add_primary(primary, primary, i * PERIOD)
        pairing.add_side(Stamp(i, i * PERIOD - 60 * MS), primary)
        assert list(pairing.decide(i * PERIOD + 29 * MS)) == []
        assert ids(list(pairing.decide(i * PERIOD + 30 * MS))) == [(i, None)]
