"""`write_video`: sizes, times, colours, and files of runs that ended badly."""

from __future__ import annotations

import resource
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from specimens import decoded, frame, picture

from pipeline.errors import StageError
from pipeline.stage import Context
from pipeline.types import Decoded, Item, StereoPair
from stages.sinks.write_video import FRAGMENT_FRAMES, WriteVideo


def item(frame_id: int, *, width: int = 65, height: int = 47, pts_ns: int | None = None) -> Decoded:
    made = decoded(frame(frame_id, width=width, height=height))
    return made if pts_ns is None else replace(made, frame=replace(made.frame, pts_ns=pts_ns))


def opened(context: Context, **fields) -> WriteVideo:
    stage = WriteVideo(**fields)
    stage.open(context)
    return stage


def write(context: Context, items: Sequence[Item], **fields) -> Path:
    stage = opened(context, **fields)
    for one in items:
        assert list(stage.process(one)) == [one]
    assert list(stage.flush()) == []
    stage.close()
    return Path(context.facts["video"])


def read(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_odd_sizes_get_their_last_row_and_column_twice(context: Context):
    first, *others = read(write(context, [item(i) for i in range(5)]))
    assert (first.width, first.height, len(others)) == (66, 48, 4)
    pixels = first.to_ndarray(format="rgb24").astype(int)
    assert np.abs(pixels[:, 65] - pixels[:, 64]).mean() < 8
    assert np.abs(pixels[47] - pixels[46]).mean() < 8


def test_frames_that_were_never_coded_are_written_too(context: Context):
    pairs = [StereoPair(frame(i), frame(i, view="right", role="side")) for i in range(2, 4)]
    items = [frame(0), frame(0, view="right", role="side"), frame(1), *pairs]
    assert len(read(write(context, items))) == 4


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_colours_survive_and_are_tagged(context: Context, codec: str):
    flat = np.empty((48, 64, 3), np.uint8)
    flat[:, :32], flat[:, 32:] = (200, 30, 20), (20, 60, 230)
    (first,) = read(write(context, [replace(item(0), frame=frame(0, flat))], codec=codec))
    pixels = first.to_ndarray(format="rgb24").astype(int)
    assert np.abs(pixels[24, 10] - (200, 30, 20)).max() <= 4
    assert np.abs(pixels[24, 50] - (20, 60, 230)).max() <= 4
    assert (first.colorspace, first.color_range) == (1, 1), "BT.709, video range"


def test_times_are_those_of_capture_from_the_first_frame_on(context: Context):
    start = 1_700_000_000_000_000_000
    stamps = [0, 103_000_000, 206_500_000, 900_000_000]
    frames = read(write(context, [item(i, pts_ns=start + s) for i, s in enumerate(stamps)]))
    assert [f.time for f in frames] == pytest.approx([s / 1e9 for s in stamps], abs=2e-5)


def test_times_that_stand_still_or_step_back_still_make_a_video(context: Context):
    frames = read(write(context, [item(i, pts_ns=p) for i, p in enumerate([10**9, 10**9, 0, 2 * 10**9])]))
    assert len(frames) == 4
    assert frames[3].time == pytest.approx(1.0, abs=1e-4)


def test_a_run_that_is_aborted_leaves_all_its_frames(context: Context):
    stage = opened(context)
    for i in range(7):
        list(stage.process(item(i)))
    stage.close()
    assert len(read(Path(context.facts["video"]))) == 7


def test_a_run_that_is_killed_leaves_its_finished_fragments(context: Context, tmp_path: Path):
    stage = opened(context)
    for i in range(2 * FRAGMENT_FRAMES + 2):
        list(stage.process(item(i)))
    left_behind = tmp_path / "killed.mp4"
    left_behind.write_bytes(Path(context.facts["video"]).read_bytes())
    stage.close()
    assert len(read(left_behind)) >= FRAGMENT_FRAMES


@pytest.mark.parametrize(("view", "dark_half"), [("left", slice(64, None)), ("right", slice(0, 64))])
def test_side_by_side_puts_the_left_view_on_the_left(context: Context, view, dark_half: slice):
    lit = frame(0, picture() // 2 + 120, view=view)
    (first,) = read(write(context, [replace(item(0), frame=lit)], content="side_by_side"))
    pixels = first.to_ndarray(format="rgb24")
    assert first.width == 128
    assert pixels[:, dark_half].max() < 40, "there is no side view"
    assert pixels.max() > 100


def test_no_frames_leave_no_file(context: Context):
    stage = opened(context, path="deep/video.mp4")
    list(stage.flush())
    stage.close()
    assert not (context.out / "deep" / "video.mp4").exists()
    assert "video" not in context.facts


def test_another_size_in_mid_run_is_refused(context: Context):
    stage = opened(context)
    list(stage.process(item(0)))
    with pytest.raises(StageError, match=r"write_video at frame 1: .* has 66x48 pixels and the frame 68x48"):
        list(stage.process(item(1, width=68)))
    stage.close()


def test_a_folder_that_cannot_be_made_is_one_sentence(context: Context):
    context.out.write_text("a file in the way")
    with pytest.raises(StageError, match=r"write_video: .*decoded.mp4 cannot be written: .+"):
        opened(context)


def test_a_file_that_cannot_be_written_is_one_sentence(context: Context):
    (context.out / "decoded.mp4").mkdir(parents=True)
    stage = opened(context)
    with pytest.raises(StageError, match=r"write_video at frame 0: .*decoded.mp4 cannot be written: .+"):
        list(stage.process(item(0)))
    stage.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_one_sentence(context: Context):
    context.out.mkdir()
    (context.out / "decoded.mp4").symlink_to("/dev/full")
    stage = opened(context)
    items = [item(i, width=320, height=240) for i in range(2 * FRAGMENT_FRAMES)]
    with pytest.raises(StageError, match="cannot be written: No space left on device"):
        deque((result for one in items for result in stage.process(one)), maxlen=0)
    stage.close()


def test_a_disk_that_is_full_when_the_last_fragment_is_written_is_one_sentence(context: Context):
    stage, items = opened(context), [item(i, width=320, height=240) for i in range(3)]
    assert [list(stage.process(one)) for one in items] == [[one] for one in items]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(StageError, match=r"decoded\.mp4 cannot be written: File too large"):
            list(stage.flush())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    stage.close()


def _received(sequence: int) -> Decoded:
    made = item(sequence)
    return replace(made, packet=replace(made.packet, sequence=sequence))


def test_a_decoder_that_is_started_again_leaves_the_video_of_the_one_before_it(tmp_path):
    written = []
    for first in (0, 3, 5, 0):
        receiving = Context("decoder", tmp_path, facts={"complete": False})
        written.append(write(receiving, [_received(first), _received(first + 1)]).name)
    assert written == ["decoded.mp4", "decoded_0002.mp4", "decoded_0003.mp4", "decoded.mp4"]
    assert len(read(tmp_path / "decoded_0002.mp4")) == 2


def test_a_part_of_a_recording_is_no_continuation(tmp_path):
    for _ in range(2):
        assert write(Context("player", tmp_path), [_received(7)]).name == "decoded.mp4"
