"""The offset to a fraction of a frame, from points that both cameras have seen."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.stage import Context
from stages.sources.synthetic import Synthetic
from tools.calibrate_offset import find_offset
from tools.offset.clips import take
from tools.offset.motion import Clip
from tools.offset.points import refine

OFFSET_S = -0.22


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clip, Clip]:
    """A rendered drive, its right view 220 ms too early."""
    sources = [Synthetic(view=v, length=26, size=(480, 144), offset_ms=1000 * OFFSET_S) for v in ("left", "right")]
    one, other = take(*sources, 60, Context("test", Path(tmp_path_factory.mktemp("out"))))
    return one.clip, other.clip


@pytest.fixture(autouse=True)
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.offset.points.FRAMES", 6)


def test_points_tell_the_offset_of_cameras_that_are_not_level_and_see_other_sizes(clips: tuple[Clip, Clip]) -> None:
    left, right = clips
    tilt = cv2.getRotationMatrix2D((200, 60), 1.0, 0.9)
    tilt[1, 2] += 4
    tilted = Clip(right.times_s, [cv2.warpAffine(grey, tilt, (440, 130)) for grey in right.greys])
    found = refine(left, tilted, OFFSET_S + 0.06)
    assert found is not None
    assert found.seconds == pytest.approx(OFFSET_S, abs=0.012)
    assert abs(found.seconds - OFFSET_S) < found.error_s
    assert found.residual_px < 0.5


def test_where_points_are_missing_the_motion_alone_tells_and_is_less_sure(clips: tuple[Clip, Clip]) -> None:
    left, right = (Clip(c.times_s, [cv2.GaussianBlur(grey, (0, 0), 12) for grey in c.greys]) for c in clips)
    assert refine(left, right, OFFSET_S) is None
    found = find_offset(left, right)
    assert found.refined is None
    assert found.error_s == pytest.approx(0.035)
    assert abs(found.seconds - OFFSET_S) < found.error_s


def test_clips_that_never_overlap_have_no_points(clips: tuple[Clip, Clip]) -> None:
    assert refine(*clips, 100.0) is None
    assert np.isfinite(clips[0].interval_s)
