from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import SourceError
from pipeline.stage import Context
from pipeline.types import Frame
from stages.picture import encode_png
from stages.sources.kitti import Kitti

SECOND = 1_000_000_000


def opened(drive: Path | str, **fields: Any) -> tuple[Kitti, Context]:
    source = TypeAdapter(Kitti).validate_python({"drive": str(drive), "pace": "fast", **fields})
    context = Context("encoder", Path())
    source.open(context)
    return source, context


def frames(source: Kitti) -> list[Frame]:
    found = [f for f in source.read() if isinstance(f, Frame)]
    source.close()
    return found


def make_drive(
    drive: Path, numbers: list[int], folder: str = "image_02/data", size: tuple[int, int] = (32, 16)
) -> Path:
    (drive / folder).mkdir(parents=True, exist_ok=True)
    for i in numbers:
        pixels = np.full((size[1], size[0], 3), i, np.uint8)
        (drive / folder / f"{i:010d}.png").write_bytes(encode_png(pixels))
    return drive


def raw_times(drive: Path, lines: list[str]) -> None:
    (drive / "image_02" / "timestamps.txt").write_text("\n".join(lines) + "\n")


def raw_line(i: int) -> str:
    return f"2011-09-26 13:02:{25 + i // 10:02d}.{i % 10}64389445"


def test_raw_times_are_read_to_the_nanosecond(tmp_path: Path) -> None:
    raw_times(make_drive(tmp_path, [0, 1]), [raw_line(0), raw_line(1)])
    found = frames(opened(tmp_path)[0])
    assert [f.pts_ns for f in found] == [1317042145 * SECOND + 64389445, 1317042145 * SECOND + 164389445]


def test_a_line_belongs_to_its_frame_where_frames_are_missing(tmp_path: Path) -> None:
    raw_times(make_drive(tmp_path, [0, 1, 4]), [raw_line(i) for i in range(6)])
    found = frames(opened(tmp_path)[0])
    assert [(f.frame_id, (f.pts_ns - found[0].pts_ns) // 1_000_000) for f in found] == [(0, 0), (1, 100), (4, 400)]


def test_times_cut_to_the_frames_present_go_by_position(tmp_path: Path) -> None:
    raw_times(make_drive(tmp_path, [100, 101, 104]), [raw_line(i) for i in (0, 1, 4)])
    found = frames(opened(tmp_path)[0])
    assert [(f.frame_id, (f.pts_ns - found[0].pts_ns) // 1_000_000) for f in found] == [
        (100, 0),
        (101, 100),
        (104, 400),
    ]


@pytest.mark.parametrize("hole", ["", "not a time", "2011-09-26 13:02:99.0", "nan"])
def test_unusable_lines_are_interpolated_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hole: str
) -> None:
    raw_times(make_drive(tmp_path, [0, 1, 2, 3]), [raw_line(0), hole, raw_line(2), hole])
    with caplog.at_level(logging.WARNING, "sidecast"):
        found = frames(opened(tmp_path)[0])
    assert [(f.pts_ns - found[0].pts_ns) // 1_000_000 for f in found] == [0, 100, 200, 300]
    assert "for 2 of 4 frames" in caplog.text


def test_a_drive_without_times_runs_at_ten_frames_a_second(tmp_path: Path) -> None:
    assert [f.pts_ns for f in frames(opened(make_drive(tmp_path, [0, 3]))[0])] == [0, 3 * SECOND // 10]


@pytest.mark.parametrize("folder", ["image_02/data", "image_02", "image_2", "image_00/data", "image_0"])
def test_every_layout_is_found(tmp_path: Path, folder: str) -> None:
    make_drive(tmp_path, [0, 1], folder)
    (tmp_path / "times.txt").write_text("0.0e+00\n1.5e-01\n")
    assert [f.pts_ns for f in frames(opened(tmp_path)[0])] == [0, 150_000_000]


def test_colour_is_taken_where_a_drive_has_both_unless_grey_is_asked_for(tmp_path: Path) -> None:
    make_drive(tmp_path, [0], "image_00/data", (20, 10))
    make_drive(tmp_path, [0], "image_02/data", (30, 10))
    assert frames(opened(tmp_path)[0])[0].width == 30
    assert frames(opened(tmp_path, camera="gray")[0])[0].width == 20


def test_a_glob_that_matches_one_drive_is_accepted(tmp_path: Path) -> None:
    make_drive(tmp_path / "seq07", [0])
    assert len(frames(opened(tmp_path / "seq*")[0])) == 1


def test_frames_are_chosen_by_their_number(tmp_path: Path) -> None:
    make_drive(tmp_path, [0, 1, 5, 6, 7, 20])
    for text, expected in (("1:7", [1, 5, 6]), ("5:", [5, 6, 7, 20]), (":2", [0, 1]), ("0:100:5", [0, 5, 20])):
        source, _ = opened(tmp_path, frames=text)
        assert source.expected_frames() == len(expected)
        assert [f.frame_id for f in frames(source)] == expected


@pytest.mark.parametrize("frames", ["7", "a:b", "5:5", "0:9:0", "-3:", 650])
def test_a_wrong_choice_of_frames_is_a_mistake_of_the_config(frames: object) -> None:
    with pytest.raises(ValidationError, match="frames"):
        TypeAdapter(Kitti).validate_python({"drive": "x", "frames": frames})


def test_both_views_come_with_side(tmp_path: Path) -> None:
    make_drive(tmp_path, [0, 1, 2])
    make_drive(tmp_path, [0, 2], "image_03/data")
    found = frames(opened(tmp_path, with_side=True)[0])
    assert [(f.frame_id, f.view, f.role) for f in found] == [
        (0, "left", "primary"),
        (0, "right", "side"),
        (1, "left", "primary"),
        (2, "left", "primary"),
        (2, "right", "side"),
    ]


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_an_unreadable_picture_is_dropped_and_the_rest_goes_on(tmp_path: Path, damage: str) -> None:
    make_drive(tmp_path, [0, 1, 2])
    path = tmp_path / "image_02" / "data" / "0000000001.png"
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) - 20], "empty": b"", "text": b"hello"}[damage])
    source, context = opened(tmp_path)
    assert source.frame_at(1) is None
    assert [f.frame_id for f in frames(source)] == [0, 2]
    (row,) = context.ledger.rows()
    assert (row.frame_id, row.status, row.pts_ns) == (1, "unreadable", SECOND // 10)


def test_a_nested_recording_leaves_the_ledger_alone(tmp_path: Path) -> None:
    make_drive(tmp_path, [0, 1])
    (tmp_path / "image_02" / "data" / "0000000000.png").write_bytes(b"")
    source, context = opened(tmp_path, pace="recorded")
    assert [f.frame_id for f in source.pull() if isinstance(f, Frame)] == [1]
    assert context.ledger.rows() == []


def test_a_size_that_changes_is_refused_with_the_frame(tmp_path: Path) -> None:
    make_drive(tmp_path, [0, 1])
    make_drive(tmp_path, [2], size=(40, 16))
    with pytest.raises(SourceError, match="frame 2 of the left view is 40x16, those before it are 32x16"):
        frames(opened(tmp_path)[0])
    assert len(frames(opened(tmp_path, size=[16, 16])[0])) == 3


def test_what_is_missing_is_said_in_one_sentence(tmp_path: Path) -> None:
    make_drive(tmp_path / "good", [0])
    make_drive(tmp_path / "also", [0])
    (tmp_path / "empty" / "image_02" / "data").mkdir(parents=True)
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("gone", {}, r"there is no such drive .*also, empty, good"),
        ("*o*", {}, r"matches 2"),
        ("good/image_02/data/0000000000.png", {}, r"expected the folder of a drive, found a file"),
        ("good", {"view": "right"}, r"expected the right camera's pictures in image_03, found image_02"),
        (".", {}, r"pictures in image_02 or image_00, found also, empty, good"),
        ("empty", {}, r"expected pictures such as 0000000000.png, found nothing"),
        ("good", {"frames": "5:9"}, r"no frame in frames: 5:9"),
    ]
    for drive, fields, sentence in cases:
        with pytest.raises(SourceError, match=sentence) as caught:
            opened(tmp_path / drive, **fields)
        assert "\n" not in str(caught.value)


def test_pace_follows_the_recording_or_a_rate(tmp_path: Path) -> None:
    make_drive(tmp_path, [0, 1, 4])

    class Fake:
        now = 0

        def monotonic_ns(self) -> int:
            return self.now

        wall_ns = monotonic_ns

        def sleep(self, seconds: float, until: object = None) -> None:
            self.now += max(0, round(seconds * SECOND))

    paces: list[tuple[Any, list[int]]] = [("recorded", [0, 100, 400]), (20, [0, 50, 100]), ("fast", [0, 0, 0])]
    for pace, expected_ms in paces:
        source = TypeAdapter(Kitti).validate_python({"drive": str(tmp_path), "pace": pace})
        source.open(Context("encoder", Path(), clock=Fake()))
        assert [f.taken_ns // 1_000_000 for f in frames(source)] == expected_ms


def test_a_stop_ends_the_source(tmp_path: Path) -> None:
    source, context = opened(make_drive(tmp_path, [0, 1, 2]))
    reading = source.read()
    next(reading)
    context.stop.set()
    assert list(reading) == []


def test_a_real_sequence_in_both_views(data: Path) -> None:
    drive = data / "kitti_odom_color" / "seq02"
    source, _ = opened(drive, with_side=True)
    assert source.expected_frames() == 20
    found = frames(source)
    assert [f.frame_id for f in found if f.role == "primary"] == list(range(20))
    assert [f.frame_id for f in found if f.role == "side"] == list(range(20))
    assert {(f.width, f.height) for f in found} == {(1241, 376)}
    assert found[2].pts_ns == 103_611_700


def test_a_real_grey_sequence_becomes_rgb(data: Path) -> None:
    found = frames(opened(data / "kitti_odom_gray" / "seq06", size=[320, 96])[0])
    assert len(found) == 16
    assert found[0].pixels.shape == (96, 320, 3)
    assert np.array_equal(found[0].pixels[..., 0], found[0].pixels[..., 2])
