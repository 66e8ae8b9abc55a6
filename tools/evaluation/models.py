"""Our codecs as curves: which weights, at which rate points, under which name.

Weights of variable rate are one curve, run at several qualities. Weights of one rate are one point; points make up a
curve when they have the same name: the one given (`NAME=FILE`), or the file's name without the number at its end, so
`ndic_bls17-0.001.safetensors` and `ndic_bls17-0.01.safetensors` are both points of `ndic_bls17`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from stages.codec import Codec

__all__ = ["ModelPoint", "load_models"]

SHARES = (0, 12 / 63, 24 / 63, 36 / 63, 48 / 63, 1)
"""Which qualities are taken where none are given, as shares of a codec's range: 0 12 24 36 48 63 of the default's."""

_NUMBER_AT_END = re.compile(r"(?P<curve>.+?)[-_.@](?P<number>[0-9.]*[0-9](?:e-?[0-9]+)?)")


@dataclass(frozen=True, slots=True, eq=False)
class ModelPoint:
    """A codec at one quality."""

    curve: str
    """The name of the codec in tables and plots."""
    quality: str
    """The point's name on that curve."""
    setting: float
    """What `Codec.encode` is given."""
    codec: Codec


def load_models(names: Sequence[str], qualities: Sequence[float], device: str) -> list[ModelPoint]:
    """The points of shipped weights (`default` among them) and weights files, each optionally as `NAME=...`.

    ConfigError where a quality is out of a codec's range, or two points have the same name; the codec library's
    WeightsError and CodecError pass through.
    """
    points = [point for name in names for point in _points(name, qualities, device)]
    seen: dict[tuple[str, str], Codec] = {}
    for point in points:
        if seen.setdefault((point.curve, point.quality), point.codec) is not point.codec:
            raise ConfigError(
                f"--models: two weights are called {point.curve!r} (quality {point.quality}), give them names as in "
                f"{point.curve}-a=FILE"
            )
    return points


def _points(text: str, qualities: Sequence[float], device: str) -> list[ModelPoint]:
    from stages.codec import load_codec

    named = "=" in text and not Path(text).is_file()
    given, _, path = text.partition("=") if named else ("", "", text)
    codec = load_codec(path, device=device)
    low, high = codec.quality_range
    if low == high:
        curve, number = _split(codec.name)
        return [ModelPoint(given or curve, number, low, codec)]
    if wrong := [quality for quality in qualities if not low <= quality <= high]:
        raise ConfigError(f"--qualities: {codec.name} has {low:g} to {high:g}, not {wrong[0]:g}")
    chosen = qualities or [round(low + (high - low) * share) for share in SHARES]
    return [ModelPoint(given or codec.name, f"{quality:g}", quality, codec) for quality in dict.fromkeys(chosen)]


def _split(name: str) -> tuple[str, str]:
    """Curve and point of the weights of one rate; a name without number at its end is both."""
    match = _NUMBER_AT_END.fullmatch(name)
    return (match["curve"], match["number"]) if match else (name, name)
