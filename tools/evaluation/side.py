"""What the side view is worth: the same payloads decoded with the right one, an older one, a wrong one, or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from tools.evaluation.bd_rate import delta_of
from tools.evaluation.samples import Side
from tools.evaluation.table import Curve

__all__ = ["Worth", "worth_of"]


@dataclass(frozen=True, slots=True)
class Worth:
    """A codec with some other side information against itself with the side view that belongs to the picture."""

    codec: str
    data: str
    side: str
    psnr_change_db: float
    """At equal bytes: the mean over the rate points."""
    ms_ssim_change_db: float | None
    psnr_percent: float | None
    """Change of rate at equal PSNR (BD-rate)."""
    ms_ssim_percent: float | None

    def sentence(self) -> str:
        """For the terminal."""
        parts = [f"{self.psnr_change_db:+.2f} dB PSNR"]
        if self.ms_ssim_change_db is not None:
            parts.append(f"{self.ms_ssim_change_db:+.2f} dB MS-SSIM at equal bytes")
        if self.psnr_percent is not None:
            parts.append(f"{self.psnr_percent:+.1f} % bytes at equal PSNR")
        return f"{self.codec} on {self.data}, {self.side}: {', '.join(parts)}"


def worth_of(curves: Sequence[Curve], models: Iterable[str], sides: Sequence[Side]) -> Iterator[Worth]:
    """What every model loses with each of `sides` against the side view that belongs; nothing where that is not among
    them."""
    by_name = {(curve.codec, curve.data): curve for curve in curves}
    for data in dict.fromkeys(curve.data for curve in curves):
        for model in dict.fromkeys(models):
            paired = by_name.get((model, data))
            for side in sides:
                other = by_name.get((model + side.suffix, data)) if side.suffix else None
                if paired is not None and other is not None:
                    yield _worth(model, paired, other, side)


def _worth(model: str, paired: Curve, other: Curve, side: Side) -> Worth:
    delta = delta_of(other, paired)
    similarity, reference = other.ms_ssim_db, paired.ms_ssim_db
    known = similarity is not None and reference is not None
    return Worth(
        model,
        paired.data,
        _told(side),
        _mean_change(other.psnr_db, paired.psnr_db),
        _mean_change(similarity or (), reference or ()) if known else None,
        delta.psnr_percent,
        delta.ms_ssim_percent,
    )


def _mean_change(values: Sequence[float], before: Sequence[float]) -> float:
    return fmean(a - b for a, b in zip(values, before, strict=True))


def _told(side: Side) -> str:
    if side.kind == "none":
        return "no side view"
    if side.kind == "wrong":
        return "side view of another scene"
    return f"side view {side.older} {'frame' if side.older == 1 else 'frames'} older"
