"""PSNR and MS-SSIM of what was decoded, against the original where one is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.errors import StageError
from pipeline.latency import Cause
from pipeline.ledger import Ledger
from pipeline.stage import Context, Source, Stage
from pipeline.types import Decoded, Frame, Item
from stages.similarity import ms_ssim, psnr_db

__all__ = ["Quality"]


@dataclass(kw_only=True)
class Quality(Stage):
    """Measure every decoded frame whose original is known; the others pass, and their fields stay empty."""

    cause: ClassVar[Cause | None] = "show"

    reference: Annotated[
        Source | None,
        Field(description="a nested source of originals, matched by frame_id; null: those that the encoder sent along"),
    ] = None
    ms_ssim: Annotated[bool, Field(description="also MS-SSIM, which costs more time than PSNR")] = True

    _context: Context = field(init=False, repr=False)

    def open(self, context: Context) -> None:
        import cv2

        cv2.setNumThreads(max(1, context.threads))
        self._context = context
        if self.reference is not None:
            # The originals are none of the node's frames: what is wrong with them must not enter its accounts.
            self.reference.open(replace(context, ledger=Ledger(), facts={}))

    def process(self, item: Item) -> Iterator[Item]:
        if not isinstance(item, Decoded):
            yield item
            return
        reference = self._reference_of(item)
        if reference is None:
            yield item
            return
        self._check(item.frame, reference)
        self._measure(item, reference)
        yield replace(item, reference=reference)

    def close(self) -> None:
        if self.reference is not None:
            self.reference.close()

    def _reference_of(self, item: Decoded) -> Frame | None:
        found = self.reference.frame_at(item.frame.frame_id) if self.reference is not None else None
        return found or item.reference

    def _check(self, frame: Frame, reference: Frame) -> None:
        if reference.view != frame.view:
            raise StageError(
                "quality",
                frame.frame_id,
                f"the reference is the {reference.view} view, decoded is the {frame.view} one",
            )
        if reference.pixels.shape != frame.pixels.shape:
            raise StageError(
                "quality",
                frame.frame_id,
                f"the reference is {reference.width}x{reference.height}, the decoded frame "
                f"{frame.width}x{frame.height}; give both sources the same `size`",
            )

    def _measure(self, item: Decoded, reference: Frame) -> None:
        metrics, original = self._context.metrics, reference.pixels
        values = {"psnr_db": psnr_db(item.frame.pixels, original)}
        metrics.psnr_db.set(values["psnr_db"])
        similarity = ms_ssim(item.frame.pixels, original) if self.ms_ssim else None
        if similarity is not None:
            values["ms_ssim"] = similarity
            metrics.ms_ssim.set(similarity)
        if item.without_side is not None:
            values["psnr_without_side_db"] = psnr_db(item.without_side.pixels, original)
            metrics.psnr_without_side_db.set(values["psnr_without_side_db"])
            metrics.side_gain_db.set(values["psnr_db"] - values["psnr_without_side_db"])
        self._context.ledger.note(item.frame.frame_id, **values)
