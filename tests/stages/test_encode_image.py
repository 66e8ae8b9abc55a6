"""`encode_image` and `decode_image`, there and back."""

from __future__ import annotations

import numpy as np
import pytest
from specimens import frame, packet_of

from pipeline.stage import Context
from pipeline.types import Decoded, StereoPair
from stages.decode_image import DecodeImage
from stages.encode_image import EncodeImage
from stages.similarity import psnr_db


def encoder(context: Context, **fields) -> EncodeImage:
    stage = EncodeImage(**fields)
    stage.open(context)
    return stage


def decoder(context: Context, **fields) -> DecodeImage:
    stage = DecodeImage(**fields)
    stage.open(context)
    return stage


def test_a_side_view_travels_and_its_bytes_are_counted_apart(context: Context):
    source = frame(4, view="right", role="side")
    (packet,) = encoder(context).process(source)
    (result,) = decoder(context).process(packet)
    assert packet.model_id == b"JPEG\0\0\0\0"
    assert (result.view, result.role, result.frame_id) == ("right", "side", 4)
    assert (result.pts_ns, result.taken_ns) == (source.pts_ns, source.taken_ns)
    assert psnr_db(result.pixels, source.pixels) > 30
    assert context.metrics.registry.get_sample_value("sidecast_payload_bytes_total", {"role": "side"}) == len(
        packet.payload
    )
    assert context.ledger.rows() == []
    assert context.facts == {}


def test_png_is_lossless(context: Context):
    source = frame(view="right", role="side")
    (packet,) = encoder(context, format="png").process(source)
    (result,) = decoder(context).process(packet)
    assert packet.model_id == b"PNG\0\0\0\0\0"
    assert np.array_equal(result.pixels, source.pixels)


@pytest.mark.parametrize("paired", [True, False])
def test_the_primary_view_as_a_comparison_is_accounted_for(context: Context, paired: bool):
    source, side = frame(9), frame(9, view="right", role="side")
    (packet,) = encoder(context, role="primary", jpeg_quality=40).process(source)
    (result,) = decoder(context).process(StereoPair(packet, side) if paired else packet)
    assert isinstance(result, Decoded)
    assert result.side is None, "it did not help"
    assert result.packet is packet
    (row,) = context.ledger.rows()
    assert row.values == {"payload_bytes": len(packet.payload), "bpp": 8 * len(packet.payload) / (64 * 48)}
    assert (context.facts["model"], context.facts["quality"], context.facts["device"]) == ("jpeg", 40.0, "cpu")


def test_other_roles_and_other_payloads_pass(context: Context):
    primary, side = frame(), frame(view="right", role="side")
    assert list(encoder(context).process(primary)) == [primary]
    assert list(encoder(context, role="primary").process(side)) == [side]
    learned = packet_of(primary, b"x")
    for item in (learned, StereoPair(learned, side), side):
        assert list(decoder(context).process(item)) == [item]
