"""`write_images`: one exact PNG per frame."""

from __future__ import annotations

import numpy as np
import pytest
from specimens import decoded, frame, packet_of

from pipeline.errors import StageError
from pipeline.stage import Context
from pipeline.types import Item, StereoPair
from stages.picture import read_picture
from stages.sinks.write_images import WriteImages


def opened(context: Context, **fields) -> WriteImages:
    stage = WriteImages(**fields)
    stage.open(context)
    return stage


def test_a_frame_becomes_a_file_of_its_number(context: Context):
    item = decoded(frame(42))
    assert list(opened(context, path="png").process(item)) == [item]
    assert np.array_equal(read_picture(context.out / "png" / "0000000042.png"), item.frame.pixels)


def test_a_frame_that_was_never_coded_is_written_too(context: Context):
    stage = opened(context)
    first, second = frame(1), StereoPair(frame(2), frame(2, view="right", role="side"))
    assert [*stage.process(first), *stage.process(second)] == [first, second]
    for item in (first, second.primary):
        assert np.array_equal(read_picture(context.out / "images" / f"000000000{item.frame_id}.png"), item.pixels)


@pytest.mark.parametrize("item", [packet_of(frame(), b"coded"), frame(role="side"), frame(role="reference")])
def test_other_items_pass_and_leave_no_file(context: Context, item: Item):
    assert list(opened(context).process(item)) == [item]
    assert not context.out.exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(context: Context):
    context.out.write_text("a file in the way")
    with pytest.raises(StageError, match=r"write_images at frame 1: .*0000000001.png cannot be written: .+"):
        list(opened(context).process(decoded(frame(1))))
