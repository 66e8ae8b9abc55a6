from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pydantic import TypeAdapter

from pipeline.errors import SourceError
from pipeline.stage import Context
from pipeline.types import Frame
from stages.sources.video import Video


def write_video(path: Path, times: list[int], fps: int = 10, size: tuple[int, int] = (64, 48)) -> Path:
    """A video whose frame at time i (in 1/fps s) is grey of level 2 * i, its right half 5 brighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for i in times:
            pixels = np.full((size[1], size[0], 3), 40 + 2 * i, np.uint8)
            pixels[:, size[0] // 2 :] += 5
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", [*range(20), *range(22, 40)])


def opened(**fields: Any) -> tuple[Video, Context]:
    source = TypeAdapter(Video).validate_python({"pace": "fast", **fields})
    context = Context("encoder", Path())
    source.open(context)
    return source, context


def frames(source: Video) -> list[Frame]:
    return [f for f in source.read() if isinstance(f, Frame)]


def level(frame: Frame) -> float:
    return float(frame.pixels[:, : frame.width // 2].mean())


def test_frame_ids_come_from_presentation_times(clip: Path) -> None:
    source, context = opened(left=str(clip))
    found = frames(source)
    assert [f.frame_id for f in found] == [*range(20), *range(22, 40)]
    assert [f.pts_ns for f in found] == [f.frame_id * 100_000_000 for f in found]
    assert all(abs(level(f) - 40 - 2 * f.frame_id) < 2.5 for f in found)
    assert source.expected_frames() == 38
    assert context.ledger.rows() == []


def test_a_frame_is_the_same_in_whatever_order_it_is_asked_for(clip: Path) -> None:
    source, _ = opened(left=str(clip))
    by_id = {f.frame_id: f.pixels for f in frames(source)}
    for i in (0, 3, 4, 4, 2, 39, 20, 21, 38, 0, 22):
        found = source.frame_at(i)
        assert (found is None) == (i not in by_id)
        assert found is None or np.array_equal(found.pixels, by_id[i])
    assert source.frame_at(4000) is None


def test_reading_twice_and_asking_between_changes_nothing(clip: Path) -> None:
    source, _ = opened(left=str(clip), frames="5:30")
    first = [f.frame_id for f in frames(source)]
    again = []
    for f in source.pull():
        assert isinstance(f, Frame)
        again.append(f.frame_id)
        source.frame_at(6)
    assert first == again == [*range(5, 20), *range(22, 30)]


def test_only_a_few_pictures_are_held(clip: Path) -> None:
    source, _ = opened(left=str(clip))
    for _frame in source.read():
        assert all(len(reader._recent) <= reader.KEPT for reader in source._readers.values())


def test_two_files_with_side_join_by_frame_id(clip: Path, tmp_path: Path) -> None:
    right = write_video(tmp_path / "right.mp4", list(range(0, 40, 2)))
    found = frames(opened(left=str(clip), right=str(right), with_side=True, fps=10)[0])
    assert [f.frame_id for f in found if f.role == "side"] == [i for i in range(0, 40, 2) if i != 20]


def test_side_by_side_is_cut_and_decoded_once(clip: Path) -> None:
    source, _ = opened(side_by_side=str(clip), with_side=True, frames="0:3")
    found = frames(source)
    assert [(f.view, f.width) for f in found] == [("left", 32), ("right", 32)] * 3
    assert all(r.pixels.mean() > le.pixels.mean() + 2 for le, r in zip(found[::2], found[1::2], strict=True))
    assert len(source._readers) == 1


def test_a_table_gives_times_and_ids(clip: Path, tmp_path: Path) -> None:
    rows = "".join(f"{100 + 2 * i},{i / 4}\n" for i in range(38))
    (tmp_path / "left.csv").write_text("frame,seconds\n" + rows)
    source, _ = opened(left=str(clip), timestamps=str(tmp_path / "{view}.csv"), frames="100:106")
    assert [(f.frame_id, f.pts_ns) for f in frames(source)] == [(100, 0), (102, 250_000_000), (104, 500_000_000)]
    assert source.expected_frames() == 3


def test_a_table_that_is_too_short_is_refused(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("0\n1\n")
    with pytest.raises(SourceError, match="has 2 rows, the video has 38 frames"):
        opened(left=str(clip), timestamps=str(tmp_path / "t.txt"))


def damage(clip: Path, numbers: tuple[int, ...]) -> None:
    """Zero the coded bytes of some packets (in decoding order)."""
    with av.open(str(clip)) as container:
        spans = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(clip.read_bytes())
    for number in numbers:
        start, size = spans[number]
        assert start is not None
        data[start : start + size] = bytes(size)
    clip.write_bytes(bytes(data))


def test_damaged_frames_are_counted_and_nothing_is_lost_unseen(clip: Path) -> None:
    damage(clip, (7, 8))
    source, context = opened(left=str(clip))
    found = [f.frame_id for f in frames(source)]
    lost = [row.frame_id for row in context.ledger.rows()]
    assert context.ledger.counts() == {"unreadable": len(lost)}
    assert lost
    assert sorted(found + lost) == [*range(20), *range(22, 40)]
    assert len(found) >= 30


def test_a_file_cut_short_is_read_as_far_as_it_goes(clip: Path) -> None:
    # Fragments let a cut file be opened at all: its index is not at the end.
    whole, cut = clip.with_suffix(".ts"), clip.with_name("cut.ts")
    write_video(whole, list(range(40)))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    source, context = opened(left=str(cut))
    found = frames(source)
    assert 5 < len(found) < 40
    assert set(context.ledger.counts()) <= {"unreadable"}


@pytest.mark.parametrize("content", [b"", b"no video", bytes(5000)])
def test_what_is_no_video_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(SourceError, match=r"x\.mp4: this is no video that can be read \([^0-9]+\)$"):
        opened(left=str(tmp_path / "x.mp4"))


def test_what_is_missing_is_said(clip: Path, tmp_path: Path) -> None:
    for fields, sentence in (
        ({"left": str(tmp_path / "gone.mp4")}, "there is no such video file"),
        ({"right": str(clip)}, "neither `left` nor `side_by_side` names a file"),
        ({"left": str(clip), "side_by_side": str(clip)}, "not both"),
        ({"left": str(clip), "timestamps": str(tmp_path / "gone.csv")}, "No such file"),
    ):
        with pytest.raises(SourceError, match=sentence):
            opened(**fields)


def test_the_gap_of_a_real_drive_keeps_its_number(data: Path) -> None:
    folder = data / "kitti_drive_gray_video"
    by_time, _ = opened(left=str(folder / "left.mp4"), frames="20:27", size=[64, 32])
    by_table, _ = opened(
        left=str(folder / "left.mp4"), timestamps=str(folder / "left_frames.csv"), frames="20:27", size=[64, 32]
    )
    expected = [20, 21, 22, 24, 25, 26]
    assert [f.frame_id for f in frames(by_time)] == expected
    timed = frames(by_table)
    assert [f.frame_id for f in timed] == expected
    assert timed[3].pts_ns == 1317045937 * 10**9 + 977365760


def test_a_real_side_by_side_clip(data: Path) -> None:
    found = frames(opened(side_by_side=str(data / "endoscopy_video" / "side_by_side.mp4"), with_side=True)[0])
    assert len(found) == 20
    assert {(f.width, f.height) for f in found} == {(1280, 1024)}
