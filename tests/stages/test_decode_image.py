"""`decode_image` against damaged bytes; what it makes of whole ones is in `test_encode_image`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from specimens import frame

from pipeline.stage import Context
from stages.decode_image import DecodeImage
from stages.encode_image import EncodeImage


def encoder(context: Context, **fields) -> EncodeImage:
    stage = EncodeImage(**fields)
    stage.open(context)
    return stage


def decoder(context: Context, **fields) -> DecodeImage:
    stage = DecodeImage(**fields)
    stage.open(context)
    return stage


@pytest.mark.parametrize("form", ["jpeg", "png"])
@pytest.mark.parametrize("damage", ["empty", "cut", "foreign", "another size", "too large"])
def test_damaged_pictures_are_left_out(context: Context, form: str, damage: str):
    (packet,) = encoder(context, role="primary", format=form).process(frame(3))
    limit = 64 * 48 - 1 if damage == "too large" else 2**24
    payload = {"empty": b"", "cut": packet.payload[:-40], "foreign": b"GIF89a" + bytes(50)}.get(damage, packet.payload)
    packet = replace(packet, payload=payload, width=65 if damage == "another size" else 64)
    stage = decoder(context, max_pixels=limit)
    assert list(stage.process(packet)) == []
    assert context.ledger.status(3) == "corrupt"
    assert list(stage.process(replace(packet, role="side", view="right", frame_id=4))) == []
    assert context.ledger.status(4) is None, "a side view is no frame of the ledger"
    assert context.metrics.registry.get_sample_value("sidecast_decode_errors_total", {"kind": "picture"}) == 2


def test_flipped_bits_give_a_frame_or_nothing(context: Context):
    stage = decoder(context)
    random = np.random.default_rng(0)
    for form in ("jpeg", "png"):
        (packet,) = encoder(context, format=form).process(frame(view="right", role="side"))
        for _ in range(1000):
            payload = bytearray(packet.payload)
            payload[random.integers(len(payload))] ^= 1 << random.integers(8)
            for result in stage.process(replace(packet, payload=bytes(payload))):
                assert result.pixels.shape == (48, 64, 3)
