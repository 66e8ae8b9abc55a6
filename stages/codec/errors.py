"""Every error of the codec library, each with a message that is one clear sentence.

CodecError              an input that cannot be coded, a missing side view, a device that is not there
├── BitstreamError      a payload that is damaged, or not made by this codec
├── ModelMismatch       a payload made with other weights
└── WeightsError        a weights file that is missing, damaged, or not one of ours
"""

from __future__ import annotations

__all__ = ["BitstreamError", "CodecError", "ModelMismatch", "WeightsError"]


class CodecError(Exception):
    """The base of all errors of the codec library."""


class BitstreamError(CodecError):
    """A payload that is damaged; nothing of it can be trusted."""


class ModelMismatch(CodecError):  # noqa: N818 (the design's name)
    """Bits and decoder belong to different weights."""


class WeightsError(CodecError):
    """A weights file that cannot be used."""
