"""`quality`: with originals from a source, with those sent along, and without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from specimens import decoded, frame

from pipeline.errors import StageError
from pipeline.stage import Context, Source
from pipeline.types import Frame, Item
from stages.quality import Quality
from stages.similarity import ms_ssim, psnr_db


@dataclass(kw_only=True)
class Originals(Source):
    """Frames by their id."""

    frames: dict[int, Frame] = field(default_factory=dict)
    opened: Context | None = None
    closed: bool = False

    def open(self, context: Context) -> None:
        self.opened = context

    def read(self) -> Iterator[Item]:
        yield from self.frames.values()

    def frame_at(self, frame_id: int) -> Frame | None:
        return self.frames.get(frame_id)

    def close(self) -> None:
        self.closed = True


def opened(context: Context, **fields) -> Quality:
    stage = Quality(**fields)
    stage.open(context)
    return stage


def values(context: Context) -> dict[str, float]:
    rows = context.ledger.rows()
    return rows[0].values if rows else {}


def test_what_was_sent_along_is_measured(context: Context):
    item = decoded(frame(3, width=180, height=170), complete=True)
    (result,) = opened(context).process(item)
    original = item.reference.pixels
    assert result.reference is item.reference
    assert values(context) == {
        "psnr_db": psnr_db(item.frame.pixels, original),
        "ms_ssim": ms_ssim(item.frame.pixels, original),
        "psnr_without_side_db": psnr_db(item.without_side.pixels, original),
    }
    assert values(context)["psnr_db"] > values(context)["psnr_without_side_db"]
    sample, measured = context.metrics.registry.get_sample_value, values(context)
    assert sample("sidecast_psnr_db") == measured["psnr_db"]
    assert sample("sidecast_psnr_without_side_db") == measured["psnr_without_side_db"]
    assert sample("sidecast_side_gain_db") == measured["psnr_db"] - measured["psnr_without_side_db"] > 0


def test_a_source_of_originals_is_matched_by_frame_id(context: Context):
    source = Originals(frames={3: frame(3)})
    stage = opened(context, reference=source, ms_ssim=False)
    (known,) = stage.process(decoded(frame(3)))
    (unknown,) = stage.process(decoded(frame(4)))
    stage.close()
    assert known.reference is source.frames[3]
    assert unknown.reference is None
    assert [row.frame_id for row in context.ledger.rows()] == [3]
    assert set(values(context)) == {"psnr_db"}
    assert source.closed


def test_the_nested_source_does_not_enter_the_node_s_accounts(context: Context):
    source = Originals()
    opened(context, reference=source)
    assert source.opened is not None
    assert source.opened.ledger is not context.ledger
    assert source.opened.facts is not context.facts


def test_without_an_original_the_item_passes_unmeasured(context: Context):
    item = decoded(frame())
    assert list(opened(context).process(item)) == [item]
    assert values(context) == {}
    assert context.metrics.registry.get_sample_value("sidecast_psnr_db") is None


def test_ms_ssim_stays_unknown_for_small_pictures(context: Context):
    list(opened(context).process(decoded(frame(), complete=True)))
    assert set(values(context)) == {"psnr_db", "psnr_without_side_db"}


@pytest.mark.parametrize(
    ("original", "sentence"),
    [
        (frame(1, width=60), "the reference is 60x48, the decoded frame 64x48"),
        (frame(1, view="right"), "the reference is the right view, decoded is the left one"),
    ],
)
def test_an_original_that_cannot_be_compared_ends_the_run(context: Context, original: Frame, sentence: str):
    stage = opened(context, reference=Originals(frames={1: original}))
    with pytest.raises(StageError, match=f"quality at frame 1: {sentence}"):
        list(stage.process(decoded(frame(1))))


def test_a_source_goes_before_what_was_sent_along(context: Context):
    mine = frame(3, pixels=frame(8).pixels)
    item = decoded(frame(3), complete=True)
    (result,) = opened(context, reference=Originals(frames={3: mine})).process(replace(item))
    assert result.reference is mine
