"""`write_images`: one exact PNG per frame."""

from __future__ import annotations

import numpy as np
import pytest
from specimens import decoded, frame

from pipeline.errors import StageError
from pipeline.stage import Context
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


def test_other_items_pass_and_leave_no_file(context: Context):
    item = frame()
    assert list(opened(context).process(item)) == [item]
    assert not context.out.exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(context: Context):
    context.out.write_text("a file in the way")
    with pytest.raises(StageError, match=r"write_images at frame 1: .*0000000001.png cannot be written: .+"):
        list(opened(context).process(decoded(frame(1))))
