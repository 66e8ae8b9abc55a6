"""The offset between two cameras: from rendered and recorded drives, and why there may be none."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SidecastError, SourceError
from pipeline.stage import Context, Source
from pipeline.types import Frame, Item
from stages.sources.synthetic import Synthetic
from tools import cli
from tools.calibrate_offset import find_offset
from tools.offset.clips import take
from tools.offset.motion import Clip

SYNTHETIC = "{{use: synthetic, view: {view}, length: {length}, size: [480, 144], offset_ms: {offset}, seed: 2}}"


def drive(view: str, offset: float, length: int = 30) -> str:
    return SYNTHETIC.format(view=view, offset=offset, length=length)


def ran(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[float, float, float]:
    """What was printed: the offset, its error, and the value for `pair`, ms."""
    assert cli.main(["calibrate-offset", *map(str, arguments)]) == 0
    out = capsys.readouterr().out
    begins = re.search(r"the right view begins ([\d.]+) ms \(± ([\d.]+)\) (after|before) the left one", out)
    line = re.search(r"^    offset_ms: (-?[\d.]+)$", out, re.MULTILINE)
    return float(begins[1]) * (1 if begins[3] == "after" else -1), float(begins[2]), float(line[1])


def failed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main(["calibrate-offset", *map(str, arguments)]) in (1, 2)
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.removeprefix("sidecast: error: ").strip()


def test_the_offset_of_a_rendered_drive_is_found_to_5_ms(capsys):
    offset_ms = 137
    found, error, line = ran(capsys, drive("left", offset_ms), drive("right", offset_ms))
    assert found == pytest.approx(offset_ms, abs=5)
    assert abs(found - offset_ms) <= error < 10
    assert line == pytest.approx(found - offset_ms, abs=0.2), "the stamps of a rendered drive are right already"


def test_the_offset_of_a_real_drive_that_is_shifted_by_three_frames_is_found(capsys, data: Path):
    folder = data / "kitti_drive_gray_video"
    right = f"{{use: video, right: {folder / 'right.mp4'}, view: right, frames: '3:'}}"
    found, error, _ = ran(capsys, folder / "left.mp4", right, "--seconds", 6)
    assert found == pytest.approx(300, abs=10)
    assert error < 10


def test_two_other_places_are_refused_with_how_little_they_correlate(capsys, data: Path):
    sentence = failed(capsys, data / "kitti_drive_gray_video" / "left.mp4", drive("right", 0), "--seconds", 4)
    assert sentence.startswith("the motion of the two views does not tell their offset: it correlates with 0.")


def test_a_view_that_stands_still_is_refused():
    rng, scene = np.random.default_rng(0), np.random.default_rng(1).integers(40, 200, (96, 160))
    times = np.arange(40) / 10
    moving = Clip(times, [np.uint8(np.roll(scene, 3 * i, axis=0)) for i in range(40)])
    still = Clip(times, [np.uint8(scene + rng.normal(0, 1, scene.shape)) for _ in range(40)])
    with pytest.raises(SidecastError, match=r"^the right view does not move \(0\.\d\d grey levels from frame"):
        find_offset(moving, still)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("nothing.mp4", "other.mp4"),
            r"^nothing\.mp4: expected a drive, a folder of pictures, a video or the address",
        ),
        (("{use: synthetik}", "x"), r"there is no stage 'synthetik'; did you mean 'synthetic'\?"),
        (("{use: encode}", "x"), r"^'encode' is no source of pictures"),
        (("{use: synthetic", "x"), r"^this source:1: not a configuration that can be read"),
        (("{use: synthetic}",), r"is no drive with both views, so RIGHT is missing"),
        (("a", "b", "--seconds", "0"), r"^--seconds 0 is not allowed, expected 2 to 600$"),
        (("{use: synthetic, length: 3}", "{use: synthetic, length: 3}"), r"^the (left|right) view has 3 frames"),
    ],
)
def test_what_cannot_be_compared_gets_a_sentence(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert re.search(sentence, failed(capsys, *arguments))


@dataclass(kw_only=True)
class Camera(Source):
    """Gives a frame after the other until it is stopped, or fails after some."""

    clock = "wall"
    fails_after: int | None = None

    def open(self, context: Context) -> None:
        self._context = context

    def read(self) -> Iterator[Item]:
        i = 0
        while not self._context.stop.is_set():
            if i == self.fails_after:
                raise SourceError("the camera is gone")
            yield Frame(np.zeros((32, 32, 3), np.uint8), "left", i, i * 10**8, 0)
            i += 1


def test_cameras_are_read_at_once_and_stopped_after_so_many_seconds(tmp_path):
    before = threading.active_count()
    one, other = take(Camera(), Camera(), 3.0, Context("test", tmp_path))
    assert len(one.clip.greys) == len(other.clip.greys) == 31
    assert threading.active_count() == before


def test_a_side_camera_that_is_late_must_be_waited_for(capsys, monkeypatch):
    """Its stamps are 300 ms later than those of the recording beside it that shows the same."""

    @dataclass(kw_only=True)
    class Late(Synthetic):
        clock = "wall"
        pace: str = "fast"

        def read(self) -> Iterator[Item]:
            return (replace(item, pts_ns=item.pts_ns + 300_000_000) for item in super().read())

    fields = {"length": 26, "size": (480, 144), "seed": 2}
    sources = {"left": Synthetic(view="left", **fields), "right": Late(view="right", **fields)}
    monkeypatch.setattr("tools.calibrate_offset.source_of", lambda text, view: sources[view])
    assert cli.main(["calibrate-offset", "a", "b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert float(lines[-2].removeprefix("    offset_ms: ")) == pytest.approx(-300, abs=5)
    assert lines[-1] in ("    max_wait_ms: 400", "    max_wait_ms: 450")


def test_a_camera_that_fails_ends_the_other(tmp_path):
    with pytest.raises(SidecastError, match=r"^the camera is gone$"):
        take(Camera(), Camera(fails_after=4), 1e9, Context("test", tmp_path))


def test_frames_whose_time_does_not_go_on_are_left_out(tmp_path):
    @dataclass(kw_only=True)
    class Stuttering(Camera):
        def read(self) -> Iterator[Item]:
            for item in super().read():
                yield item
                yield replace(item, pts_ns=0)

    one, _ = take(Stuttering(), Camera(), 1.0, Context("test", tmp_path))
    assert np.allclose(one.clip.times_s, np.arange(11) / 10)
