"""Latency by cause over a real link between two nodes whose wall clocks disagree."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from runs import free_ports

from pipeline.clock import SystemClock
from pipeline.config.model import Node, StageEntry
from pipeline.latency import CAUSES, Cause, by_cause_ms
from pipeline.report import summarise
from pipeline.runner import Runner
from pipeline.stage import Context, Source, Stage
from pipeline.types import Frame, Item, Packet
from stages.receive import Receive
from stages.send import Send

FRAMES, APART_S = 12, 3.0


class FastClock(SystemClock):
    """A machine whose wall clock is ahead of the other's."""

    def wall_ns(self) -> int:
        return super().wall_ns() + round(APART_S * 1e9)


@dataclass(kw_only=True)
class Camera(Source):
    clock: ClassVar = "wall"

    def open(self, context: Context) -> None:
        self._context = context

    def read(self) -> Iterator[Item]:
        for i in range(FRAMES):
            taken_ns = self._context.clock.wall_ns()
            time.sleep(0.005)
            yield Frame(np.zeros((16, 16, 3), np.uint8), "left", i, taken_ns, taken_ns)
            time.sleep(0.02)


@dataclass(kw_only=True)
class Slow(Stage):
    """Takes its time; turns frames into packets where it encodes."""

    seconds: float
    cause: ClassVar[Cause | None] = "encode"

    def process(self, item: Item) -> Iterator[Item]:
        time.sleep(self.seconds)
        if isinstance(item, Frame):
            stamps = (item.pts_ns, item.taken_ns)
            item = Packet(item.frame_id, "left", "primary", *stamps, b"model-id", 16, 16, 0.0, b"payload")
        yield item


class SlowDecoder(Slow):
    cause: ClassVar[Cause | None] = "decode"


class SlowSink(Slow):
    cause: ClassVar[Cause | None] = "show"


def runner(name: str, context: Context, *stages: Stage) -> Runner:
    uses = [type(stage).__name__.lower() for stage in stages]
    entries = [StageEntry(use, use, stage, None, i) for i, (use, stage) in enumerate(zip(uses, stages, strict=True))]
    return Runner(Node(name, None, False, entries), context)


@pytest.mark.parametrize("ahead", ["encoder", "decoder"])
def test_the_causes_add_up_on_two_machines_whose_clocks_differ(tmp_path: Path, ahead: str) -> None:
    link = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    clocks = {name: FastClock() if name == ahead else SystemClock() for name in ("encoder", "decoder")}
    near, far = (Context(name, tmp_path, clock=clocks[name]) for name in ("encoder", "decoder"))
    encoder = runner("encoder", near, Camera(), Slow(seconds=0.01), Send(connect=link))
    decoder = runner("decoder", far, Receive(bind=link), SlowDecoder(seconds=0.015), SlowSink(seconds=0.002))
    threads = [threading.Thread(target=one.run) for one in (decoder, encoder)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    rows = far.ledger.rows()
    assert [row.status for row in rows] == ["out"] * FRAMES
    for row in rows:
        causes = by_cause_ms(row.values)
        assert causes is not None
        assert sum(causes.values()) == pytest.approx(row.values["latency_ms"])
        assert 32 <= row.values["latency_ms"] < 1000, "not by the difference of the clocks"
        assert causes["capture"] >= 5
        assert causes["encode"] >= 10
        assert causes["decode"] >= 15
        assert causes["show"] >= 2
        assert -1 < causes["network"] < 500
    latency = summarise(rows, far.facts)["latency_by_cause_ms"]
    assert latency["frames"] == FRAMES
    assert latency["sum"]["mean"] == pytest.approx(np.mean([row.values["latency_ms"] for row in rows]))
    registry = far.metrics.registry
    seconds = [registry.get_sample_value("sidecast_latency_seconds_sum", {"cause": cause}) for cause in CAUSES]
    assert sum(seconds) == pytest.approx(registry.get_sample_value("sidecast_end_to_end_latency_seconds_sum"), abs=0.02)
