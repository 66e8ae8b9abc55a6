from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter

from pipeline.stage import Context
from pipeline.types import Frame
from stages.sources.synthetic import Synthetic


def opened(**fields: Any) -> Synthetic:
    source = TypeAdapter(Synthetic).validate_python({"pace": "fast", "size": [320, 96], **fields})
    source.open(Context("encoder", Path()))
    return source


def frames(source: Synthetic) -> list[Frame]:
    return [f for f in source.read() if isinstance(f, Frame)]


def test_both_views_of_every_frame_come() -> None:
    source = opened(length=3, with_side=True)
    found = frames(source)
    assert source.expected_frames() == 3
    assert [(f.frame_id, f.view) for f in found] == [(i, v) for i in range(3) for v in ("left", "right")]
    assert {f.pixels.shape for f in found} == {(96, 320, 3)}
    assert found[2].pts_ns - found[0].pts_ns == 100_000_000


def test_frames_are_the_same_in_any_order_and_source() -> None:
    forward = [f.pixels for f in frames(opened(length=4))]
    other = opened(length=4)
    for i in (3, 0, 2):
        found = other.frame_at(i)
        assert found is not None
        assert np.array_equal(found.pixels, forward[i])
    assert other.frame_at(4) is None
    assert not np.array_equal(forward[0], frames(opened(length=1, seed=1))[0].pixels)


def test_another_process_renders_the_same() -> None:
    program = (
        "import hashlib; from pathlib import Path; from pipeline.stage import Context\n"
        "from stages.sources.synthetic import Synthetic\n"
        "s = Synthetic(size=(320, 96), seed=5); s.open(Context('n', Path()))\n"
        "print(hashlib.sha256(s.frame_at(7).pixels.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = opened(seed=5).frame_at(7)
    assert here is not None
    assert there.stdout.strip() == hashlib.sha256(here.pixels.tobytes()).hexdigest()


@pytest.mark.parametrize(("seed", "frame_id"), [(0, 0), (0, 33), (4, 11)])
def test_disparity_leads_from_one_view_to_the_other(seed: int, frame_id: int) -> None:
    source = opened(seed=seed, noise=0)
    (left, to_left), (right, to_right) = (
        (source.render(frame_id, v).astype(np.float32), source.disparity_at(frame_id, v)) for v in ("left", "right")
    )
    rows, columns = np.mgrid[0:96, 0:320].astype(np.float32)
    at = columns - to_left
    seen = (at >= 0) & (np.abs(cv2.remap(to_right, at, rows, cv2.INTER_NEAREST) - to_left) < 0.5)
    warped = cv2.remap(right, at, rows, cv2.INTER_LINEAR)
    assert seen.mean() > 0.85
    assert to_left.min() == 0
    assert 5 < to_left.max() < 100
    error, error_unaligned = (np.mean((picture - left)[seen] ** 2) for picture in (warped, right))
    assert error < 0.25 * error_unaligned


def test_an_offset_moves_the_time_and_the_place_of_the_right_camera() -> None:
    together, apart = opened(noise=0), opened(noise=0, offset_ms=50)
    assert np.array_equal(together.render(3, "left"), apart.render(3, "left"))
    assert not np.array_equal(together.render(3, "right"), apart.render(3, "right"))
    right = opened(noise=0, offset_ms=-50, view="right").frame_at(0)
    left = opened(noise=0, offset_ms=-50).frame_at(0)
    assert right is not None
    assert left is not None
    assert right.pts_ns - left.pts_ns == -50_000_000
    assert min(right.pts_ns, left.pts_ns) > 0


def test_the_pictures_have_detail_everywhere_but_the_sky() -> None:
    pixels = opened(noise=0).render(5, "left").astype(np.float32).mean(-1)
    blocks = pixels[48:].reshape(6, 8, 40, 8).std(axis=(1, 3))
    assert np.median(blocks) > 6
    assert 60 < pixels.mean() < 190


@pytest.mark.parametrize("size", [(64, 48), (317, 95), (1242, 375)])
def test_any_size_is_rendered(size: tuple[int, int]) -> None:
    source = opened(size=size)
    assert source.render(0, "left").shape == (size[1], size[0], 3)
    assert source.disparity_at(0).shape == (size[1], size[0])
