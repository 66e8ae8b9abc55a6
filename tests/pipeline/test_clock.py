"""The clocks of this machine, and somebody who sets them."""

from __future__ import annotations

import time

import pytest

from pipeline.clock import SystemClock


def test_wall_clock_is_that_of_the_machine():
    assert SystemClock().wall_ns() == pytest.approx(time.time_ns(), abs=2_000_000_000)


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_wall_clock_that_is_set_does_not_disturb(monkeypatch, step_s):
    clock, real = SystemClock(), time.time_ns
    before = clock.wall_ns()
    monkeypatch.setattr(time, "time_ns", lambda: real() + step_s * 10**9)
    later = [clock.wall_ns(), SystemClock().wall_ns()]
    assert before <= later[0] <= later[1] < before + 5 * 10**9
