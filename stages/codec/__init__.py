"""Learned distributed image coding with a real bitstream, as a library of tensors and bytes.

    codec = load_codec("weights.safetensors", device="auto")
    payload = codec.encode(x, quality=24)                 # x: float32 (1, 3, H, W), nominally in [0, 1]
    x_hat = codec.decode(payload, side)                   # side: the view that only the decoder has

What makes up a payload is specified in `stages.codec.container` and `stages.codec.entropy`, a weights file in
`stages.codec.weights_file`, and what a network has to offer in `stages.codec.model`.
"""

from stages.codec.codec import MAX_PIXELS, Codec, Prepared, load_codec
from stages.codec.errors import BitstreamError, CodecError, ModelMismatch, WeightsError

__all__ = [
    "MAX_PIXELS",
    "BitstreamError",
    "Codec",
    "CodecError",
    "ModelMismatch",
    "Prepared",
    "WeightsError",
    "load_codec",
]
