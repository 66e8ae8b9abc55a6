"""What a node counts of frames that never went down its chain."""

from __future__ import annotations

import pytest

from pipeline.meter import Meter
from pipeline.stage import Context


def _sample(context: Context, name: str, **labels: str) -> float | None:
    return context.metrics.registry.get_sample_value(f"sidecast_frames_{name}_total", labels)


@pytest.mark.parametrize("reason", ["unreadable", "latest"])
def test_a_frame_that_its_source_gave_up_came_in_and_was_dropped(tmp_path, reason):
    context = Context("encoder", tmp_path)
    Meter(context, relay=False)
    context.ledger.drop(7, reason, 0)
    assert (_sample(context, "in"), _sample(context, "dropped", reason=reason)) == (1, 1)


@pytest.mark.parametrize("reason", ["unreadable", "latest"])
def test_what_another_node_gave_up_is_not_counted_here(tmp_path, reason):
    context = Context("decoder", tmp_path)
    Meter(context, relay=True)
    context.ledger.drop(7, reason, 0)
    assert (_sample(context, "in"), _sample(context, "dropped", reason=reason)) == (0, 0)
