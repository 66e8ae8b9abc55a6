"""`write_panels`: which frames it picks, and where it leaves them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from specimens import decoded, frame

from pipeline.errors import StageError
from pipeline.stage import Context
from stages.picture import read_picture
from stages.sinks.write_panels import WritePanels


def opened(context: Context, **fields) -> WritePanels:
    stage = WritePanels(**fields)
    stage.open(context)
    return stage


def written(context: Context, stage: WritePanels, sampled: int = 4, count: int = 10) -> list[int]:
    for i in range(count):
        item = decoded(frame(i + 100, width=40, height=20), complete=True)
        item = item if i % sampled == 0 else replace(item, without_side=None)
        assert list(stage.process(item)) == [item]
    return sorted(int(p.stem) - 100 for p in (context.out / "panels").glob("*.png"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, [0, 4, 8]), ({"max": 2}, [0, 4]), ({"every": 3}, [0, 3, 6, 9])],
)
def test_frames_are_picked(context: Context, fields: dict[str, int], expected: list[int]):
    assert written(context, opened(context, **fields)) == expected


def test_the_first_frame_has_a_panel_even_if_no_frame_is_sampled(context: Context):
    assert list(opened(context).process(decoded(frame(3))))
    file = context.out / "panels" / "0000000003.png"
    assert context.facts["panel"] == str(file)
    assert read_picture(file).ndim == 3


def test_a_folder_that_cannot_be_made_is_one_sentence(context: Context):
    context.out.write_text("a file in the way")
    with pytest.raises(StageError, match=r"write_panels at frame 3: .*0000000003.png cannot be written: .+"):
        list(opened(context).process(decoded(frame(3))))
