"""`encode`: what leaves it, what is accounted for, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from specimens import MODEL_ID, TinyCodec, frame, packet_of

from pipeline.errors import ConfigError, StageError
from pipeline.stage import Context
from stages.encode import Encode
from stages.picture import decode_picture

pytestmark = pytest.mark.usefixtures("tiny_codec")


def opened(context: Context, **fields) -> Encode:
    stage = Encode(**fields)
    stage.open(context)
    return stage


def test_a_primary_frame_becomes_a_packet_that_carries_its_stamps(context: Context):
    source = frame(7)
    (packet,) = opened(context, quality=12.5).process(source)
    assert (packet.frame_id, packet.view, packet.role) == (7, "left", "primary")
    assert (packet.pts_ns, packet.taken_ns) == (source.pts_ns, source.taken_ns)
    assert (packet.width, packet.height, packet.quality, packet.model_id) == (64, 48, 12.5, MODEL_ID)


def test_bytes_are_noted_and_counted(context: Context):
    stage, sample = opened(context), context.metrics.registry.get_sample_value
    assert sample("sidecast_payload_bytes_total", {"role": "primary"}) == 0
    (packet,) = stage.process(frame(7))
    (row,) = context.ledger.rows()
    assert row.values == {"payload_bytes": len(packet.payload), "bpp": 8 * len(packet.payload) / (64 * 48)}
    assert sample("sidecast_payload_bytes_total", {"role": "primary"}) == len(packet.payload)
    assert sample("sidecast_raw_bytes_total") == 3 * 64 * 48
    assert sample("sidecast_pixels_total") == 64 * 48


def test_facts_tell_model_quality_device_and_size(context: Context):
    list(opened(context).process(frame()))
    assert context.facts == {
        "model": "tiny",
        "model_id": MODEL_ID.hex(),
        "quality": 24.0,
        "encode_device": "cpu",
        "width": 64,
        "height": 48,
    }


def test_everything_else_passes(context: Context):
    stage = opened(context)
    for item in (frame(role="side", view="right"), packet_of(frame(), b"x")):
        assert list(stage.process(item)) == [item]
    assert context.ledger.rows() == []


def test_references_are_sent_ahead_of_their_frame_at_intervals_of_capture_time(context: Context):
    stage = opened(context, reference_every_s=0.25)
    sources = [frame(i) for i in range(7)]
    packets = [p for source in sources for p in stage.process(source)]
    references = [p for p in packets if p.role == "reference"]
    assert [p.frame_id for p in references] == [0, 3, 6]
    assert [p.role for p in packets[:2]] == ["reference", "primary"]
    assert np.array_equal(decode_picture(references[1].payload), sources[3].pixels)
    noted = context.ledger.rows()[0].values["payload_bytes"]
    assert noted == len(packets[1].payload), "the original's bytes are none of the frame's"


def test_the_cores_of_the_node_are_claimed_by_the_threads_that_encode(context: Context):
    stage = opened(replace(context, threads=8))
    assert stage.at_once == 4
    assert torch.get_num_threads() == 1, "whoever opens it has no team of threads"
    list(stage.process(frame(0)))
    assert torch.get_num_threads() == 2


def test_an_original_is_sent_in_time_whichever_frame_is_coded_first(context: Context):
    stage = opened(context, reference_every_s=0.25)
    begun = [stage.process(frame(i)) for i in range(4)]
    roles = [[packet.role for packet in results] for results in reversed(begun)]
    assert roles == [["reference", "primary"], ["primary"], ["primary"], ["reference", "primary"]]


def test_open_refuses_a_quality_that_the_model_has_not(context: Context):
    with pytest.raises(ConfigError, match=r"quality 64 is outside the range of tiny, 0 to 63"):
        opened(context, quality=64)


def test_a_codec_error_names_the_frame(context: Context, tiny_codec: TinyCodec, monkeypatch: pytest.MonkeyPatch):
    stage = opened(context)
    monkeypatch.setattr("stages.tensors.to_tensor", lambda *_, **__: torch.full((1, 3, 8, 8), float("nan")))
    with pytest.raises(StageError, match=r"encode at frame 3: the picture has values that are no numbers"):
        list(stage.process(frame(3)))


def test_a_network_of_one_size_says_what_it_does_with_pictures(
    context: Context, tiny_codec: TinyCodec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    asked = {}
    monkeypatch.setattr("stages.codec.load_codec", lambda *_, **options: asked.update(options) or tiny_codec)
    tiny_codec.description["works_on"] = "tiles of 64 x 32 pixels"
    with caplog.at_level("INFO"):
        Encode(fit="tiles").open(context)
    assert asked["fit"] == "tiles"
    assert "encode: tiny works on tiles of 64 x 32 pixels" in caplog.text
