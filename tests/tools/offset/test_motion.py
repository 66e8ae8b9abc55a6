"""Motion over time: the lag of one clip behind another."""

from __future__ import annotations

import numpy as np
import pytest

from tools.offset.motion import STILL, Clip, find_lag


def wave(times_s: np.ndarray, seed: int = 0) -> Clip:
    """A scene of bars that sway irregularly, seen at these times."""
    rng = np.random.default_rng(seed)
    sways = [(rng.uniform(0.3, 2.5), rng.uniform(0, 6), rng.uniform(0.5, 1.5)) for _ in range(12)]
    rows = np.arange(48)[:, None] + np.zeros((1, 64))

    def picture(t: float) -> np.ndarray:
        shift = sum(size * np.sin(2 * np.pi * hz * t + phase) for hz, phase, size in sways)
        return np.uint8(np.clip(128 + 60 * np.sin((rows + shift) / 5) + 40 * np.sin((rows - 0.5 * shift) / 3), 0, 255))

    return Clip(times_s - times_s[0], [picture(t) for t in times_s])


@pytest.mark.parametrize("lag_s", [0.137, -0.42, 0.0])
def test_the_lag_of_two_clips_of_different_rates_is_found(lag_s):
    left, right = wave(np.arange(0, 8, 0.05)), wave(np.arange(0, 8, 0.04) + lag_s)
    found = find_lag(left, right)
    assert found.seconds == pytest.approx(lag_s, abs=0.02)
    assert found.correlation > 0.8
    assert found.next_best < 0.75 * found.correlation


def test_a_gap_in_one_clip_does_not_matter():
    times = np.arange(0, 8, 0.05)
    found = find_lag(wave(times), wave(np.delete(times, [40, 41, 90]) + 0.3))
    assert found.seconds == pytest.approx(0.3, abs=0.02)


def test_clips_that_cannot_overlap_enough_have_no_lag():
    assert find_lag(wave(np.arange(0, 1.5, 0.05)), wave(np.arange(0, 8, 0.05))) is None


def test_another_scene_does_not_correlate():
    found = find_lag(wave(np.arange(0, 8, 0.05)), wave(np.arange(0, 8, 0.05), seed=1))
    assert found.correlation < 0.45 or found.next_best > 0.75 * found.correlation


def test_noise_is_no_motion():
    rng = np.random.default_rng(0)
    noise = [np.uint8(np.clip(rng.normal(128, 2, (160, 480)), 0, 255)) for _ in range(10)]
    assert Clip(np.arange(10) / 10, noise).motion < STILL
    assert wave(np.arange(0, 1, 0.05)).motion > 10 * STILL
