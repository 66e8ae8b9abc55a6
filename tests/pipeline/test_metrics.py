"""The table of metrics: complete, conventional, and silent about what is not known."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import pytest
from chains import LastButOpen, Numbers, Step, context, frame, node
from prometheus_client import generate_latest

from pipeline.ledger import DROP_REASONS
from pipeline.meter import Meter
from pipeline.metrics import Metrics, Sampled, free_bytes
from pipeline.runner import Runner

LABELS = {
    "reason": set(DROP_REASONS),
    "kind": {"bitstream", "size", "picture"},
    "role": {"primary", "side", "reference"},
}
"""What is exported from the start, by label."""


def _exported(metrics: Metrics) -> dict[str, list[dict[str, str]]]:
    """Labels of every sample of ours, by name."""
    found: dict[str, list[dict[str, str]]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name.startswith("sidecast_"):
                found.setdefault(sample.name, []).append(sample.labels)
    return found


def _filled() -> Metrics:
    """Every metric with a value."""
    metrics = Metrics()
    for value in vars(metrics).values():
        if isinstance(value, Sampled):
            value.set(1)
    metrics.wire_bytes.labels("primary").inc(5)
    metrics.stage_seconds.labels("encode").observe(0.1)
    metrics.channel_depth.labels("encode").set(1)
    metrics.model_info.labels("disparity-mse", "00ff", "cpu").set(1)
    metrics.build_info.labels("0.1.0").set(1)
    return metrics


def test_what_is_not_known_is_not_exported():
    exported = _exported(Metrics())
    assert not {name for name in exported if "psnr" in name or "link_up" in name or "offset" in name}
    assert {"sidecast_psnr_db", "sidecast_link_up", "sidecast_pair_offset_seconds"} <= _exported(_filled()).keys()


def test_a_known_zero_is_exported():
    metrics = Metrics()
    metrics.link_up.set(0)
    assert metrics.registry.get_sample_value("sidecast_link_up") == 0


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("sidecast_frames_dropped_total", "reason"),
        ("sidecast_decode_errors_total", "kind"),
        ("sidecast_payload_bytes_total", "role"),
        ("sidecast_wire_bytes_total", "role"),
        ("sidecast_received_bytes_total", "role"),
    ],
)
def test_every_label_of_a_list_is_there_from_the_start(name, label):
    """A counter that appears with its first event has no rate for it."""
    assert {labels[label] for labels in _exported(Metrics())[name]} == LABELS[label]


def test_promtool_has_no_complaint_about_any_metric(need):
    need("promtool", "prometheus")
    text = generate_latest(_filled().registry)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_run_says_its_version_its_weights_and_its_disk(tmp_path):
    ctx = context(tmp_path)
    ctx.facts.update(model="tiny", model_id="00ff", device="cpu")
    Runner(node(Numbers(), Step()), ctx).run()
    exported = _exported(ctx.metrics)
    assert exported["sidecast_model_info"] == [{"model": "tiny", "model_id": "00ff", "device": "cpu"}]
    assert exported["sidecast_build_info"][0]["version"]
    assert (ctx.metrics.registry.get_sample_value("sidecast_out_free_bytes") or 0) > 0


def test_a_node_without_weights_names_none(tmp_path):
    ctx = context(tmp_path)
    Runner(node(Numbers(), LastButOpen()), ctx).run()
    assert "sidecast_model_info" not in _exported(ctx.metrics)


def test_capture_time_goes_on_with_the_frames_and_never_back(tmp_path):
    ctx = context(tmp_path)
    meter = Meter(ctx, relay=False)
    for frame_id in (0, 1, 4, 2, 5):  # 100 ms apart; frame 2 comes late
        meter.entered(frame(frame_id))
    assert ctx.metrics.registry.get_sample_value("sidecast_captured_seconds_total") == pytest.approx(0.5)
    stamp_s = ctx.metrics.registry.get_sample_value("sidecast_last_frame_timestamp_seconds")
    assert stamp_s == pytest.approx(ctx.clock.wall_ns() / 1e9, abs=60)


def test_free_bytes_of_a_folder_that_is_not_made_yet(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") > 0
    assert not math.isnan(free_bytes(Path("relative/and/missing")))
