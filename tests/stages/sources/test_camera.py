"""The stage `camera`: frames, sizes, two devices, outages, the accounts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cameras import mjpeg_camera, ts_camera, write_clip
from pydantic import TypeAdapter, ValidationError

from pipeline.config import load
from pipeline.errors import ConfigError, SourceError
from pipeline.stage import Context
from pipeline.types import Frame
from stages import TABLE
from stages.sources.camera import Camera


@contextmanager
def _open(tmp_path: Path, **fields: Any) -> Iterator[tuple[Iterator[Frame], Context]]:
    camera = TypeAdapter(Camera).validate_python({"warm_up_s": 0, **fields})
    context = Context("encoder", tmp_path)
    camera.open(context)
    try:
        yield camera.read(), context
    finally:
        context.stop.set()
        camera.close()


def _metric(context: Context, name: str, view: str = "left") -> float | None:
    return context.metrics.registry.get_sample_value(f"sidecast_camera_{name}", {"view": view})


def test_frames_of_a_network_camera(tmp_path):
    with ts_camera() as served, _open(tmp_path, device=served.url, view="right") as (frames, context):
        before = context.clock.wall_ns()
        seen = [next(frames) for _ in range(5)]
        after = context.clock.wall_ns()
        assert _metric(context, "up", "right") == 1
    ids = [frame.frame_id for frame in seen]
    assert ids == sorted(set(ids))
    assert {(frame.view, frame.role, frame.width, frame.height) for frame in seen} == {("right", "primary", 96, 64)}
    assert all(before <= frame.taken_ns <= after for frame in seen)
    assert all(0 <= frame.taken_ns - frame.pts_ns < 1e9 for frame in seen)


def test_two_devices_give_both_views_of_one_moment(tmp_path):
    left, right = (write_clip(tmp_path / f"{view}.avi", frames=40) for view in ("left", "right"))
    with _open(tmp_path, device=left, side_device=right) as (frames, _):
        seen = [next(frames) for _ in range(6)]
    assert [(f.view, f.role) for f in seen] == [("left", "primary"), ("right", "side")] * 3
    assert [f.frame_id for f in seen[::2]] == [f.frame_id for f in seen[1::2]]
    assert all(0 < b.pts_ns - a.pts_ns < 20_000_000 for a, b in zip(seen[::2], seen[1::2], strict=True))


def test_a_file_that_ends_is_opened_again(tmp_path, caplog):
    clip = write_clip(tmp_path / "clip.avi", frames=5)
    with caplog.at_level(logging.WARNING, "sidecast"), _open(tmp_path, device=clip) as (frames, context):
        seen = [next(frames) for _ in range(8)]
        assert _metric(context, "reopened_total") == 1
        fact = context.facts["camera_left"]
    assert [f.frame_id for f in seen] == list(range(seen[0].frame_id, seen[0].frame_id + 8))
    assert fact["device"] == clip
    assert fact["reopened"] == 1
    assert 0.2 <= fact["down_s"] < 2
    assert caplog.messages[0].endswith("clip.avi gives no more frames; trying to open it again")
    assert "is back after" in caplog.messages[1]


def test_a_side_camera_that_fails_takes_the_pair_with_it(tmp_path):
    left, right = write_clip(tmp_path / "left.avi", frames=40), write_clip(tmp_path / "right.avi", frames=5)
    with _open(tmp_path, device=left, side_device=right) as (frames, context):
        seen = [next(frames) for _ in range(16)]
        assert _metric(context, "reopened_total", "left") == _metric(context, "reopened_total", "right") == 1
    assert [f.role for f in seen] == ["primary", "side"] * 8


def test_frames_are_brought_to_the_size(tmp_path):
    clip = write_clip(tmp_path / "clip.avi", size=(96, 64))
    with _open(tmp_path, device=clip, size=(64, 64)) as (frames, _):
        assert next(frames).pixels.shape == (64, 64, 3)


@pytest.mark.parametrize("size", [None, (80, 48)])
def test_a_camera_that_changes_its_size_half_way_is_handled_and_told_once(tmp_path, caplog, size):
    expected = size or (96, 64)
    caplog.set_level(logging.WARNING, "sidecast")
    with mjpeg_camera(fps=50) as served, _open(tmp_path, device=served.url, size=size) as (frames, _):
        seen = [next(frames)]
        served.size = (160, 120)
        seen += [next(frames) for _ in range(25)]
    assert {(f.width, f.height) for f in seen} == {expected}
    told = f"the left camera sends 160x120 now, its frames are brought to {expected[0]}x{expected[1]}"
    assert caplog.messages == [told]


def test_frames_that_nobody_takes_in_time_are_counted_as_latest(tmp_path):
    clip = write_clip(tmp_path / "clip.avi", frames=100, fps=100)
    with _open(tmp_path, device=clip) as (frames, context):
        first = next(frames).frame_id
        for _ in range(500):
            if context.ledger.counts()["latest"] >= 3:
                break
            threading.Event().wait(0.01)
        later = next(frames).frame_id
        dropped = [row.frame_id for row in context.ledger.rows() if first < row.frame_id < later]
    assert dropped == list(range(first + 1, later))
    assert len(dropped) >= 3


def test_it_ends_after_its_duration(tmp_path):
    clip = write_clip(tmp_path / "clip.avi", frames=100)
    with _open(tmp_path, device=clip, duration_s=0.2) as (frames, _):
        seen = list(frames)
    assert 3 <= len(seen) <= 12
    assert seen[-1].taken_ns - seen[0].taken_ns <= 0.25e9


def test_it_ends_after_its_duration_though_the_camera_is_away(tmp_path):
    with ts_camera() as served, _open(tmp_path, device=served.url, duration_s=0.5) as (frames, _):
        next(frames)
        served.unplugged.set()
        assert len(list(frames)) < 20


def test_it_ends_when_it_is_stopped(tmp_path):
    with ts_camera() as served, _open(tmp_path, device=served.url) as (frames, context):
        next(frames)
        served.silent.set()
        context.stop.set()
        assert len(list(frames)) <= 2


def test_a_password_is_not_told(tmp_path):
    with ts_camera() as served:
        url = served.url.replace("tcp://", "tcp://eve:secret@")
        with _open(tmp_path, device=url) as (_, context):
            assert context.facts["camera_left"]["device"] == served.url.replace("tcp://", "tcp://eve:***@")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"device": 0, "side_device": "rtsp://h/x"}, "`side_device` is for two devices of this machine"),
        ({"device": "rtsp://h/x", "side_device": 1}, "give the other one to `side` of `pair`"),
        ({"device": 2, "side_device": 2}, "are both 2, expected two"),
        ({"device": "rtsp://e:pw@h/x", "fps": 30, "lock": True}, r"rtsp://e:\*\*\*@h/x: `fps`, `lock` is for devices"),
        ({"device": 2, "side_device": "2"}, "are both 2, expected two"),
        ({"device": 63}, "camera /dev/video63: there is no such device"),
        ({"device": "63"}, "camera /dev/video63: there is no such device"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(tmp_path, fields, sentence):
    with pytest.raises(SourceError, match=sentence), _open(tmp_path, **fields):
        pass


@pytest.mark.parametrize(
    "fields", [{"device": ""}, {"device": 0, "format": "MJPEG"}, {"device": 0, "silence_s": 0}, {}]
)
def test_wrong_keys_are_refused_before_anything_is_opened(fields):
    with pytest.raises(ValidationError):
        TypeAdapter(Camera).validate_python(fields)


def test_a_camera_is_no_reference(tmp_path):
    path = tmp_path / "reference.yaml"
    path.write_text(
        "nodes: {one: {stages: [{use: synthetic}, {use: quality, reference: {use: camera, device: 0, view: left}}]}}"
    )
    with pytest.raises(ConfigError, match=r"stages\[1\]\.reference: a live source cannot be matched by frame_id"):
        load(path, TABLE, {})
