"""Runner: order of life, the first error, draining, accounts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from chains import LastButOpen, Live, Numbers, Step, context, frame, node

from pipeline.config.model import ChannelSpec
from pipeline.errors import ConfigError, LinkError, SidecastError, SourceError, StageError
from pipeline.ledger import BATCH, RECENT
from pipeline.runner import Runner, originates, settles
from pipeline.stage import Context, Source, Stage
from pipeline.types import Item


def sample(ctx: Context, name: str, **labels: str) -> float:
    return ctx.metrics.registry.get_sample_value(name, labels) or 0.0


def test_all_frames_come_through_and_are_accounted_for(tmp_path):
    ctx, sink = context(tmp_path), Step()
    Runner(node(Numbers(count=30), Step(held=3), sink), ctx).run()
    assert sink.through == list(range(30))
    assert ctx.ledger.counts() == {"out": 30}
    assert sample(ctx, "sidecast_frames_in_total") == sample(ctx, "sidecast_frames_out_total") == 30
    assert sample(ctx, "sidecast_end_to_end_latency_seconds_count") == 30
    for stage in ("s0", "s1", "s2"):
        assert sample(ctx, "sidecast_stage_duration_seconds_count", stage=stage) == 30
    values = ctx.ledger.rows()[7].values
    assert set(values) == {"s0_ms", "s1_ms", "s2_ms", "latency_ms", "entered_s", "settled_s", "spent_capture_s"}
    assert ctx.facts["expected_frames"] == 30
    assert ctx.facts["clock"] == "recorded"


def test_a_long_run_keeps_no_more_than_the_recent_frames(tmp_path):
    ctx = context(tmp_path)
    runner = Runner(node(Numbers(count=20_000), Step(), Step()), ctx)
    runner.run()
    journeys = runner.meter.journeys
    kept = (ctx.ledger._rows, ctx.ledger._settled, ctx.ledger._changed)
    assert max(map(len, kept)) <= RECENT + BATCH
    assert (len(runner.meter._inside), len(journeys._journeys), len(journeys._unexplained)) == (0, 0, 0)
    assert ctx.ledger.counts() == {"out": 20_000}
    assert [row.frame_id for row in ctx.ledger.by_frame_id()] == list(range(20_000))


def test_stages_open_in_order_and_close_in_reverse(tmp_path):
    log: list[str] = []
    Runner(node(Numbers(log=log), Step(name="a", log=log), Step(name="b", log=log)), context(tmp_path)).run()
    assert log == ["open numbers", "open a", "open b", "close b", "close a", "close numbers"]


def test_a_stage_that_cannot_open_closes_those_before_it(tmp_path):
    log: list[str] = []
    broken = Step(name="b", log=log, fail_open=SourceError("there is no such thing"))
    with pytest.raises(SourceError, match=r"^there is no such thing$"):
        Runner(node(Numbers(log=log), Step(name="a", log=log), broken, Step(log=log)), context(tmp_path)).run()
    assert log == ["open numbers", "open a", "close a", "close numbers"]


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (ValueError("no  such\nthing"), StageError, "s1 at frame 3: ValueError: no such thing"),
        (KeyError(), StageError, "s1 at frame 3: KeyError"),
        (SourceError("a.png cannot be read"), StageError, "s1 at frame 3: a.png cannot be read"),
        (LinkError("the decoder is gone"), LinkError, "the decoder is gone"),
        (StageError("decode", 2, "too large"), StageError, "decode at frame 2: too large"),
    ],
)
def test_an_error_is_a_sentence_with_stage_and_frame(tmp_path, error, kind, sentence):
    ctx = context(tmp_path)
    first, last = Step(fail_at=(3, error)), Step()
    with pytest.raises(kind) as caught:
        Runner(node(Numbers(endless=True), first, last), ctx).run()
    assert str(caught.value) == sentence
    assert first.seen_error == last.seen_error == [caught.value]
    assert ctx.error is caught.value
    counts = ctx.ledger.counts()
    assert counts["aborted"] >= 1
    assert set(counts) <= {"out", "aborted"}


def test_an_error_in_close_reaches_the_stages_that_are_closed_later(tmp_path):
    before = Step()
    with pytest.raises(StageError, match="s2: OSError: disk full"):
        Runner(node(Numbers(), before, Step(fail_close=OSError("disk full"))), context(tmp_path)).run()
    assert str(before.seen_error[0]) == "s2: OSError: disk full"


def test_stop_drains_what_is_on_its_way(tmp_path):
    ctx, sink = context(tmp_path), Step(held=2)
    runner = Runner(node(Numbers(endless=True), Step(), sink), ctx)
    thread = threading.Thread(target=runner.run)
    thread.start()
    assert sink.reached.wait(10)
    ctx.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert set(ctx.ledger.counts()) == {"out"}
    assert sink.through == list(range(len(sink.through)))


def test_a_source_without_frames_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="s0 gave no frame at all"):
        Runner(node(Numbers(count=0), Step()), context(tmp_path)).run()


def test_a_source_without_frames_is_none_after_a_stop(tmp_path):
    ctx = context(tmp_path)
    ctx.stop.set()
    Runner(node(Numbers(endless=True), Step()), ctx).run()
    assert not ctx.ledger.counts()


def test_unreadable_frames_are_an_error_after_the_rest_is_done(tmp_path):
    ctx, sink = context(tmp_path), Step()
    with pytest.raises(SourceError, match=r"s0 could not read 2 frames \(1, 3\), the rest was processed"):
        Runner(node(Numbers(unreadable=(1, 3)), sink), ctx).run()
    assert sink.through == [0, 2, 4]
    assert ctx.error is None
    assert sample(ctx, "sidecast_frames_in_total") == 5
    assert sample(ctx, "sidecast_frames_dropped_total", reason="unreadable") == 2


def test_a_live_source_drops_before_encode_and_counts(tmp_path):
    ctx, gate = context(tmp_path), threading.Event()
    slow, sink = Step(gate=gate), Step()
    runner = Runner(node(Live(count=50), slow, sink, uses={1: "encode"}), ctx)
    timer = threading.Timer(0.1, gate.set)
    timer.start()
    runner.run()
    timer.join()
    counts = ctx.ledger.counts()
    assert counts["latest"] > 0
    assert counts["out"] + counts["latest"] == 50 == sample(ctx, "sidecast_frames_in_total")
    assert sink.through[-1] == 49


def test_behind_a_live_source_no_frame_is_coded_before_the_next_stage_wants_it(tmp_path):
    ctx, gate, begun = context(tmp_path), threading.Event(), threading.Event()
    encode, sink = Step(reached=begun), Step(gate=gate)
    runner = Runner(node(Live(endless=True), encode, sink, uses={1: "encode"}), ctx)
    thread = threading.Thread(target=runner.run)
    thread.start()
    assert sink.reached.wait(5)
    time.sleep(0.05)
    assert len(encode.through) == 1
    ctx.stop.set()
    gate.set()
    thread.join(5)
    counts = ctx.ledger.counts()
    assert counts["latest"] > 100 * counts["out"]


def test_the_file_decides_about_channels(tmp_path):
    sink = Step()
    spec = ChannelSpec(policy="block", capacity=7)
    runner = Runner(node(Live(count=50), Step(), sink, uses={1: "encode"}, channels={1: spec}), context(tmp_path))
    runner.run()
    assert sink.through == list(range(50))


class Slow(Step):
    """Takes its time, by the clock of the test."""

    def process(self, item: Item) -> Iterator[Item]:
        self._context.clock.sleep(0.03)
        yield from super().process(item)


def test_waiting_for_the_next_stage_is_not_a_stages_own_time(tmp_path):
    ctx = context(tmp_path)
    Runner(node(Numbers(count=6), Step(), Slow()), ctx).run()
    own = [row.values["s1_ms"] for row in ctx.ledger.rows()]
    assert max(own) < 20
    assert all(row.values["s2_ms"] >= 29 for row in ctx.ledger.rows())


def test_side_views_pass_without_being_counted(tmp_path):
    @dataclass(kw_only=True)
    class Both(Numbers):
        def read(self) -> Iterator[Item]:
            for i in range(3):
                yield frame(i, "side")
                yield frame(i)

    ctx, sink = context(tmp_path), Step()
    Runner(node(Both(), sink), ctx).run()
    assert len(sink.through) == 6
    assert ctx.ledger.counts() == {"out": 3}
    assert sample(ctx, "sidecast_frames_in_total") == 3


def test_a_node_without_sinks_leaves_its_frames_pending(tmp_path):
    ctx, chain = context(tmp_path), node(Numbers(), LastButOpen())
    assert not settles(chain)
    Runner(chain, ctx).run()
    assert ctx.ledger.counts() == {"pending": 5}
    ctx.ledger.frame_out(0)
    assert sample(ctx, "sidecast_frames_out_total") == 1


def test_a_receiving_node_counts_only_what_came_here(tmp_path):
    class Receiver(Numbers):
        def read(self) -> Iterator[Item]:
            self._context.ledger.merge([{"frame_id": 9, "pts_ns": 0, "status": "latest", "values": {}}])
            self._context.ledger.drop(8, "corrupt")
            yield from super().read()

    ctx, chain = context(tmp_path), node(Receiver(), Step(), uses={0: "receive"})
    assert not originates(chain)
    Runner(chain, ctx).run()
    assert "expected_frames" not in ctx.facts
    assert ctx.ledger.counts() == {"out": 5, "latest": 1, "corrupt": 1}
    assert sample(ctx, "sidecast_frames_in_total") == 6
    assert sample(ctx, "sidecast_frames_dropped_total", reason="corrupt") == 1
    assert sample(ctx, "sidecast_frames_dropped_total", reason="latest") == 0


def test_a_stage_that_hangs_does_not_keep_the_others_from_ending(tmp_path):
    class Hanging(Step):
        def close(self) -> None:
            forever.wait(20)

    forever, log = threading.Event(), list[str]()
    bad = Step(fail_at=(0, ValueError("x")))
    runner = Runner(node(Numbers(log=log), bad, Hanging()), context(tmp_path), abort_grace_s=0.05)
    begin = time.monotonic()
    with pytest.raises(StageError, match="s1 at frame 0: ValueError: x"):
        runner.run()
    assert time.monotonic() - begin < 5
    assert log[-1] == "close numbers"
    forever.set()


def test_a_thread_of_a_stage_that_dies_ends_the_run(tmp_path):
    class Threaded(Step):
        def open(self, context: Context) -> None:
            super().open(context)
            self._thread = threading.Thread(target=lambda: 1 / 0, name="camera")

        def process(self, item: Item) -> Iterator[Item]:
            if self._thread.ident is None:
                self._thread.start()
            yield item

    hook = threading.excepthook
    with pytest.raises(StageError, match="camera: ZeroDivisionError: division by zero"):
        Runner(node(Numbers(endless=True), Threaded()), context(tmp_path)).run()
    assert threading.excepthook is hook


def test_a_second_interrupt_aborts(tmp_path):
    gate, sink = threading.Event(), Step()
    ctx = context(tmp_path)
    runner = Runner(node(Numbers(endless=True), Step(gate=gate), sink), ctx, abort_grace_s=0.5)

    def interrupt() -> None:
        raise KeyboardInterrupt("enough")

    runner._over.wait = interrupt  # type: ignore[method-assign,assignment]
    threading.Timer(0.1, gate.set).start()
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    assert str(sink.seen_error[0]) == "enough"
    assert set(ctx.ledger.counts()) <= {"aborted", "out"}


def test_ready_is_set_only_while_the_stages_work(tmp_path):
    gate, sink = threading.Event(), Step()
    runner = Runner(node(Numbers(count=1), Step(gate=gate), sink), context(tmp_path))
    assert not runner.ready.is_set()
    thread = threading.Thread(target=runner.run)
    thread.start()
    assert runner.ready.wait(10)
    gate.set()
    thread.join(10)
    assert not runner.ready.is_set()


@pytest.mark.parametrize("stages", [(), (Step(),)])
def test_a_chain_must_start_with_a_source(tmp_path, stages: tuple[Stage, ...]):
    with pytest.raises(ConfigError, match="must start with a source"):
        Runner(node(*stages), context(tmp_path))


def test_a_source_that_fails_while_reading_keeps_its_sentence(tmp_path):
    class Broken(Numbers):
        def read(self) -> Iterator[Item]:
            yield frame(0)
            raise SourceError("drive/times.txt ends early")

    assert issubclass(Broken, Source)
    with pytest.raises(SidecastError, match=r"^drive/times.txt ends early$"):
        Runner(node(Broken(), Step()), context(tmp_path)).run()
