"""Stages that work on several items at the same time: order, errors, ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from chains import Live, Numbers, Step, context, node

from pipeline.channel import Aborted
from pipeline.errors import StageError
from pipeline.runner import Runner
from pipeline.turns import Turns
from pipeline.types import Item, frame_id_of


@dataclass(kw_only=True)
class Parallel(Step):
    """The later an item of its group comes the earlier it is done, and all of a group are worked on together."""

    group: int = 3
    together: threading.Barrier | None = None

    @property
    def at_once(self) -> int:
        return self.group

    def process(self, item: Item) -> Iterator[Item]:
        self.asked = [*getattr(self, "asked", []), frame_id_of(item)]
        return self._worked(item)

    def _worked(self, item: Item) -> Iterator[Item]:
        if self.together:
            self.together.wait(10)
        frame_id = frame_id_of(item)
        time.sleep(0.004 * (self.group - frame_id % self.group))
        if self.fail_at and frame_id == self.fail_at[0]:
            raise self.fail_at[1]
        if self.held:
            self._waiting.append(item)
        else:
            self.through.append(frame_id)
            yield item


def test_items_are_worked_on_together_and_go_on_in_their_order(tmp_path):
    ctx, sink = context(tmp_path), Step()
    parallel = Parallel(together=threading.Barrier(3))
    Runner(node(Numbers(count=12), parallel, sink), ctx).run()
    assert sink.through == parallel.asked == list(range(12))
    assert sorted(parallel.through) == list(range(12))
    assert parallel.through != list(range(12)), "the last of a group is done first"
    assert ctx.ledger.counts() == {"out": 12}
    assert ctx.metrics.registry.get_sample_value("sidecast_stage_duration_seconds_count", {"stage": "s1"}) == 12


def test_what_is_held_back_comes_last(tmp_path):
    sink = Step()
    Runner(node(Numbers(count=10), Parallel(held=10), sink), context(tmp_path)).run()
    assert sorted(sink.through) == list(range(10))


def test_an_error_names_its_own_frame_and_ends_those_that_wait_for_their_turn(tmp_path):
    ctx, last = context(tmp_path), Step()
    parallel = Parallel(fail_at=(3, ValueError("x")), together=threading.Barrier(3))
    begin = time.monotonic()
    with pytest.raises(StageError, match=r"^s1 at frame 3: ValueError: x$"):
        Runner(node(Numbers(endless=True), parallel, last), ctx).run()
    assert time.monotonic() - begin < 5
    assert last.through == [0, 1, 2]
    assert set(ctx.ledger.counts()) == {"out", "aborted"}


def test_frames_that_a_slow_stage_leaves_behind_are_accounted_for(tmp_path):
    ctx, sink = context(tmp_path), Step()
    Runner(node(Live(count=60), Parallel(), sink, uses={1: "encode"}), ctx).run()
    counts = ctx.ledger.counts()
    assert counts["latest"] > 0
    assert counts["out"] == len(sink.through)
    assert counts["out"] + counts["latest"] == 60
    assert sink.through == sorted(sink.through)


def test_waits_end_in_order_or_with_the_run():
    turns, ended = Turns(), list[str]()
    numbers = [turns.next_number() for _ in range(3)]

    def wait(number: int) -> None:
        try:
            turns.wait(number)
            ended.append(f"turn {number}")
        except Aborted:
            ended.append(f"aborted {number}")

    threads = [threading.Thread(target=wait, args=(number,)) for number in numbers[1:]]
    for thread in threads:
        thread.start()
    assert not turns.wait(0)
    turns.end()
    threads[0].join(5)
    turns.abort()
    threads[1].join(5)
    assert ended == ["turn 1", "aborted 2"]
