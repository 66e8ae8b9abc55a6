"""Latency by cause: who is charged for a wait, and that the causes add up to the latency."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import nan
from typing import ClassVar

import pytest
from chains import Live, Step, context, frame, node

from pipeline.journeys import Journeys
from pipeline.latency import CAUSES, Cause, Holdups, by_cause_ms, table_ms
from pipeline.runner import Runner
from pipeline.types import Frame, Item, Packet

MS = 1_000_000


class FakeClock:
    """Two clocks that can disagree."""

    now_ns = 5_000 * MS
    wall_ahead_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns + self.wall_ahead_ns

    def sleep(self, seconds: float, until: threading.Event | None = None) -> None:
        self.now_ns += round(seconds * 1e9)


def packet(taken_ns: int, offset_ns: int = 0) -> Packet:
    return Packet(7, "left", "primary", 0, taken_ns, b"model-id", 8, 4, 1.0, b"", clock_offset_ns=offset_ns)


def test_a_wait_is_charged_to_the_stage_that_was_waited_for():
    assert Holdups("decode").split(100, 350) == {"decode": 250}


def test_a_wait_for_a_stage_that_was_held_up_is_charged_to_the_next_one():
    pair, decode = Holdups("pair"), Holdups("decode")
    pair.held_up(10 * MS, 30 * MS, decode)
    assert pair.split(0, 25 * MS) == {"pair": 10 * MS, "decode": 15 * MS}
    assert pair.split(40 * MS, 50 * MS) == {"pair": 10 * MS}


def test_the_blame_goes_to_the_stage_that_holds_up_all_others():
    pair, decode, show = Holdups("pair"), Holdups("decode"), Holdups("show")
    decode.held_up(12 * MS, 20 * MS, show)
    pair.held_up(10 * MS, 25 * MS, decode)
    assert pair.split(10 * MS, 25 * MS) == {"decode": 7 * MS, "show": 8 * MS, "pair": 0}


def test_a_wait_of_two_threads_of_a_stage_is_charged_once():
    encode, network = Holdups("encode"), Holdups("network")
    encode.held_up(10 * MS, 20 * MS, network)
    encode.held_up(5 * MS, 30 * MS, network)
    encode.held_up(12 * MS, 18 * MS, network)
    assert encode.split(0, 40 * MS) == {"encode": 20 * MS, "network": 20 * MS}


def test_a_channel_with_room_holds_nothing_up():
    pair = Holdups("pair")
    pair.held_up(0, 20_000, Holdups("decode"))
    assert pair.split(0, MS) == {"pair": MS}


def test_both_nodes_together_explain_the_whole_latency_whatever_their_clocks_say(tmp_path):
    """The encoder's clock is 4 s behind and known to be; it takes 3 + 20 ms, the network 30, pair 5, decode 40."""
    clock, behind_ns = FakeClock(), 4_000 * MS
    sender, receiver = context(tmp_path, clock=FakeClock()), context(tmp_path, clock=clock)
    sender.clock.wall_ahead_ns = clock.wall_ahead_ns - behind_ns
    near, far = Journeys(sender, relay=False), Journeys(receiver, relay=True)
    picture = Frame(frame(7).pixels, "left", 7, 0, sender.clock.wall_ns())
    sent = packet(picture.taken_ns, behind_ns)
    sender.ledger.frame_in(7, 0)

    sender.clock.now_ns += 3 * MS
    near.entered(picture, Holdups("capture"))
    sender.clock.now_ns += 20 * MS
    near.waited(picture, Holdups("encode"))
    near.yielded(sent, Holdups("encode"))
    near.parted(sent)

    clock.now_ns += (3 + 20 + 30) * MS
    receiver.ledger.frame_in(7, 0)
    receiver.ledger.note(7, arrived_s=clock.now_ns / 1e9)
    clock.now_ns += 5 * MS
    held_up = Holdups("network")
    held_up.held_up(clock.now_ns - 5 * MS, clock.now_ns, Holdups("pair"))
    far.entered(sent, held_up)
    clock.now_ns += 40 * MS
    clock.wall_ahead_ns += 60_000 * MS  # a step of this machine's clock changes nothing any more
    far.yielded(sent, Holdups("decode"))
    assert far.ended(sent) == 98 * MS

    assert by_cause_ms(receiver.ledger.row(7).values) is None
    receiver.ledger.merge(sender.ledger.changes())
    causes = by_cause_ms(receiver.ledger.row(7).values)
    assert causes == pytest.approx({"capture": 3, "pair": 5, "encode": 20, "network": 30, "decode": 40, "show": 0})
    receiver.ledger.merge([{"frame_id": 7, "pts_ns": 0, "status": "out", "values": {}}])
    for cause in CAUSES:
        assert sample(receiver, "count", cause) == 1
        assert sample(receiver, "sum", cause) == pytest.approx(causes[cause] / 1000)


def test_the_wait_for_credit_is_charged_to_what_kept_the_decoder_from_giving_it(tmp_path):
    """Coded after 20 ms, sent at 120, there at 130: for 70 ms of that the decoder's node could take nothing."""
    clock = FakeClock()
    ctx = context(tmp_path, clock=clock)
    journeys, receive = Journeys(ctx, relay=True), Holdups("network")
    taken_ns = clock.wall_ns()
    coded = replace(packet(taken_ns), sent_ns=taken_ns + 120 * MS)
    ctx.ledger.frame_in(7, 0)
    receive.held_up(clock.now_ns + 40 * MS, clock.now_ns + 110 * MS, Holdups("decode"))
    clock.now_ns += 130 * MS
    journeys.entered(coded, receive)
    journeys.ended(coded)
    ctx.ledger.merge([{"frame_id": 7, "pts_ns": 0, "status": "pending", "values": {"sender_encode_s": 0.02}}])
    causes = by_cause_ms(ctx.ledger.row(7).values)
    assert causes == pytest.approx({"capture": 0, "pair": 0, "encode": 20, "network": 40, "decode": 70, "show": 0})
    assert sample(ctx, "sum", "decode") == pytest.approx(0.07)


def sample(ctx, kind: str, cause: Cause) -> float:
    return ctx.metrics.registry.get_sample_value(f"sidecast_latency_seconds_{kind}", {"cause": cause}) or 0.0


def test_a_dropped_frame_leaves_nothing_behind(tmp_path):
    ctx = context(tmp_path, clock=FakeClock())
    journeys, picture = Journeys(ctx, relay=False), frame(1)
    journeys.entered(picture, Holdups("capture"))
    ctx.ledger.frame_in(1, 0)
    ctx.ledger.drop(1, "corrupt")
    journeys.waited(picture, Holdups("encode"))
    assert not journeys._journeys
    assert sum(sample(ctx, "count", cause) for cause in CAUSES) == 0


def test_a_frame_that_is_through_does_not_wait_for_its_explanation_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.journeys.MAX_UNEXPLAINED", 3)
    ctx = context(tmp_path, clock=FakeClock())
    journeys = Journeys(ctx, relay=True)
    for i in range(5):
        journeys.entered(replace(packet(0), frame_id=i), Holdups("network"))
        journeys.ended(replace(packet(0), frame_id=i))
    assert list(journeys._unexplained) == [2, 3, 4]


@dataclass(kw_only=True)
class Slow(Step):
    cause: ClassVar[Cause | None] = "decode"

    def process(self, item: Item) -> Iterator[Item]:
        time.sleep(0.01)
        yield from super().process(item)


class Pairing(Step):
    cause: ClassVar[Cause | None] = "pair"


class Sink(Step):
    cause: ClassVar[Cause | None] = "show"


def test_the_causes_of_a_run_add_up_and_name_the_slow_stage(tmp_path):
    ctx = context(tmp_path)
    Runner(node(Live(count=12), Step(), Pairing(), Slow(), Sink()), ctx).run()
    rows = ctx.ledger.rows()
    for row in rows:
        causes = by_cause_ms(row.values)
        assert sum(causes.values()) == pytest.approx(row.values["latency_ms"])
        assert causes["network"] == causes["encode"] == 0
    last = by_cause_ms(rows[-1].values)
    assert last["decode"] > 5 * max(last[cause] for cause in CAUSES if cause != "decode")
    total = ctx.metrics.registry.get_sample_value("sidecast_end_to_end_latency_seconds_sum")
    assert sum(sample(ctx, "sum", cause) for cause in CAUSES) == pytest.approx(total)


def test_the_table_of_many_frames_says_what_each_of_them_does():
    spent, sender = {"spent_decode_s": 0.04, "spent_pair_s": 0.01}, {"sender_encode_s": 0.02, "sender_capture_s": 0.003}
    frames = [
        {},
        {"latency_ms": 5.0},
        spent,
        {**spent, "arrival_s": 0.05},
        {**spent, **sender, "arrival_s": 0.05},
        {**spent, **sender, "arrival_s": 0.05, "held_decode_s": 0.006, "held_pair_s": 0.001},
        {**spent, **sender, "held_decode_s": 0.006},
    ]
    for values, told in zip(frames, table_ms(frames), strict=True):
        causes = by_cause_ms(values)
        assert list(told) == pytest.approx(
            [nan] * len(CAUSES) if causes is None else list(causes.values()), nan_ok=True
        )
