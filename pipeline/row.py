"""One primary frame and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DROP_REASONS", "OUT", "PENDING", "Row"]

PENDING = "pending"
OUT = "out"

DROP_REASONS = ("unreadable", "latest", "stale", "corrupt", "unpaired", "aborted")
"""unreadable: the source could not read it. latest: replaced by a fresher frame before `encode`. stale: live, not
acknowledged and too old at a reconnect. corrupt: the payload was damaged. unpaired: the model needs the side view.
aborted: the run ended before the frame was through."""


@dataclass(slots=True)
class Row:
    """One primary frame."""

    frame_id: int
    pts_ns: int
    status: str = PENDING
    """`pending`, `out`, or the reason for which it was dropped."""
    values: dict[str, float] = field(default_factory=dict)
    """Measurements by name: payload_bytes, wire_bytes, bpp, psnr_db, ms_ssim, psnr_without_side_db, side_offset_ms,
    unpaired (1.0), latency_ms, STAGE_ms for every stage, and what `pipeline.latency` makes the causes of latency of."""
    number: int = 0
    """Its place in the order of arrival, from 0."""

    def copy(self) -> Row:
        """One that stays as it is."""
        return Row(self.frame_id, self.pts_ns, self.status, dict(self.values), self.number)
