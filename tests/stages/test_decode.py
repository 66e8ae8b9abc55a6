"""`decode`: pairs, damaged payloads, other weights, originals that were sent along."""

from __future__ import annotations

import logging
import struct

import numpy as np
import pytest
from specimens import TinyCodec, frame, packet_of

from pipeline.errors import StageError
from pipeline.stage import Context
from pipeline.types import Packet, StereoPair
from stages.decode import REFERENCES_KEPT, Decode
from stages.picture import encode_png
from stages.tensors import to_tensor

PNG_ID = b"PNG".ljust(8, b"\0")


def opened(context: Context, **fields) -> Decode:
    stage = Decode(**fields)
    stage.open(context)
    return stage


def coded(codec: TinyCodec, frame_id: int = 0) -> Packet:
    source = frame(frame_id)
    return packet_of(source, codec.encode(to_tensor(source.pixels), quality=1.0))


def pair(codec: TinyCodec, frame_id: int = 0) -> StereoPair:
    return StereoPair(coded(codec, frame_id), frame(frame_id, view="right", role="side"))


def test_a_pair_is_decoded_with_its_side_view(context: Context, tiny_codec: TinyCodec):
    item = pair(tiny_codec, 5)
    (result,) = opened(context).process(item)
    assert np.array_equal(result.frame.pixels, frame(5).pixels)
    assert (result.frame.view, result.frame.frame_id, result.frame.role) == ("left", 5, "primary")
    assert (result.frame.pts_ns, result.frame.taken_ns) == (item.primary.pts_ns, item.primary.taken_ns)
    assert result.side is item.side
    assert result.packet is item.primary
    assert (result.without_side, result.reference) == (None, None)
    assert context.facts == {"model": "tiny", "model_id": tiny_codec.model_id.hex(), "device": "cpu"}


@pytest.mark.parametrize("wrapped", [True, False])
def test_without_a_side_view_the_payload_is_decoded_alone(context: Context, tiny_codec: TinyCodec, wrapped: bool):
    packet = coded(tiny_codec)
    (result,) = opened(context).process(StereoPair(packet, None) if wrapped else packet)
    assert result.side is None
    assert result.frame.pixels[:, :, 2].max() == 0


def test_every_nth_frame_is_decoded_without_the_side_view_too(context: Context, tiny_codec: TinyCodec):
    stage = opened(context, without_side_every=3)
    results = [r for i in range(7) for r in stage.process(pair(tiny_codec, i))]
    sampled = [r.frame.frame_id for r in results if r.without_side is not None]
    assert sampled == [0, 3, 6]
    assert results[0].without_side.pixels[:, :, 2].max() == 0
    assert results[0].frame.pixels[:, :, 2].max() > 0


def test_which_frames_are_sampled_and_whose_an_original_is_does_not_depend_on_who_is_done_first(
    context: Context, tiny_codec: TinyCodec
):
    stage = opened(context, without_side_every=2)
    original = packet_of(frame(1, role="reference"), encode_png(frame(1).pixels), PNG_ID)
    begun = [stage.process(item) for item in (pair(tiny_codec, 0), original, pair(tiny_codec, 1), pair(tiny_codec, 2))]
    results = {r.frame.frame_id: r for results in reversed(begun) for r in results}
    assert [results[i].without_side is not None for i in range(3)] == [True, False, True]
    assert [results[i].reference is not None for i in range(3)] == [False, True, False]


def test_an_unpaired_frame_is_dropped_where_the_model_needs_the_side_view(context: Context, tiny_codec: TinyCodec):
    tiny_codec.needs_side = True
    stage = opened(context, without_side_every=1)
    assert list(stage.process(coded(tiny_codec, 1))) == []
    assert context.ledger.status(1) == "unpaired"
    (result,) = stage.process(pair(tiny_codec, 2))
    assert result.without_side is None


def test_damaged_payloads_are_dropped_counted_and_said_once(
    context: Context, tiny_codec: TinyCodec, caplog: pytest.LogCaptureFixture
):
    stage = opened(context)
    whole = coded(tiny_codec)
    damaged = [whole.payload[:-1] + b"?", whole.payload[:5], b""]
    with caplog.at_level(logging.WARNING):
        for i, payload in enumerate(damaged):
            assert list(stage.process(packet_of(frame(i), payload))) == []
        assert len(list(stage.process(pair(tiny_codec, 3)))) == 1
        stage.close()
    assert [context.ledger.status(i) for i in range(3)] == ["corrupt"] * 3
    assert context.metrics.registry.get_sample_value("sidecast_decode_errors_total", {"kind": "bitstream"}) == 3
    assert [r.getMessage() for r in caplog.records] == [
        "decode: frame 0 is dropped as corrupt: the payload is damaged",
        "2 more of the same kind",
    ]


@pytest.mark.parametrize(("width", "height"), [(60000, 60000), (65, 48), (0, 48)])
def test_a_payload_that_claims_another_size_is_refused_before_it_is_decoded(
    context: Context, tiny_codec: TinyCodec, monkeypatch: pytest.MonkeyPatch, width: int, height: int
):
    monkeypatch.setattr(tiny_codec, "decode", lambda *_args, **_options: pytest.fail("was decoded"))
    payload = struct.pack("<HHfI", width, height, 1.0, 0)
    assert list(opened(context).process(packet_of(frame(4), payload))) == []
    assert context.ledger.status(4) == "corrupt"
    assert context.metrics.registry.get_sample_value("sidecast_decode_errors_total", {"kind": "size"}) == 1


def test_max_pixels_is_the_limit(context: Context, tiny_codec: TinyCodec):
    assert len(list(opened(context, max_pixels=64 * 48).process(coded(tiny_codec)))) == 1
    assert list(opened(context, max_pixels=64 * 48 - 1).process(coded(tiny_codec))) == []


def test_other_weights_are_named(context: Context, tiny_codec: TinyCodec):
    packet = packet_of(frame(2), b"x", model_id=bytes(range(8)))
    with pytest.raises(StageError, match=r"decode at frame 2: .*weights 0001020304050607, .*1122334455667788 \(tiny\)"):
        list(opened(context).process(packet))


def test_a_picture_instead_of_a_payload_is_called_by_name(context: Context, tiny_codec: TinyCodec):
    packet = packet_of(frame(2), b"x", model_id=b"JPEG".ljust(8, b"\0"))
    with pytest.raises(StageError, match="weights JPEG"):
        list(opened(context).process(packet))


def test_views_of_different_sizes_are_refused_in_one_sentence(context: Context, tiny_codec: TinyCodec):
    item = StereoPair(coded(tiny_codec), frame(view="right", role="side", width=32, height=48))
    with pytest.raises(StageError, match=r"the primary view is 64x48 and the side view 32x48"):
        list(opened(context).process(item))


def reference_of(frame_id: int, payload: bytes | None = None) -> Packet:
    source = frame(frame_id, role="reference")
    return packet_of(source, encode_png(source.pixels) if payload is None else payload, model_id=PNG_ID)


def test_an_original_is_attached_to_its_frame(context: Context, tiny_codec: TinyCodec):
    stage = opened(context)
    assert list(stage.process(reference_of(1))) == []
    results = [r for i in range(3) for r in stage.process(pair(tiny_codec, i))]
    assert [r.reference is not None for r in results] == [False, True, False]
    assert np.array_equal(results[1].reference.pixels, frame(1).pixels)


def test_a_damaged_original_costs_nothing_but_itself(context: Context, tiny_codec: TinyCodec):
    stage = opened(context)
    assert list(stage.process(reference_of(1, b"\x89PNG\r\n\x1a\nnonsense"))) == []
    (result,) = stage.process(pair(tiny_codec, 1))
    assert result.reference is None


def test_originals_without_their_frame_are_forgotten(context: Context, tiny_codec: TinyCodec):
    stage = opened(context)
    for i in range(REFERENCES_KEPT + 1):
        assert list(stage.process(reference_of(i))) == []
    results = [r for i in range(2) for r in stage.process(pair(tiny_codec, i))]
    assert [r.reference is not None for r in results] == [False, True]


def test_frames_pass(context: Context, tiny_codec: TinyCodec):
    item = frame(role="side", view="right")
    assert list(opened(context).process(item)) == [item]


def test_a_network_of_one_size_says_what_it_does_with_pictures(
    context: Context, tiny_codec: TinyCodec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    asked = {}
    monkeypatch.setattr("stages.codec.load_codec", lambda *_, **options: asked.update(options) or tiny_codec)
    tiny_codec.description["works_on"] = "tiles of 64 x 32 pixels"
    with caplog.at_level("INFO"):
        Decode(fit="tiles").open(context)
    assert asked["fit"] == "tiles"
    assert "decode: tiny works on tiles of 64 x 32 pixels" in caplog.text
