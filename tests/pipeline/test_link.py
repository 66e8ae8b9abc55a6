"""Both ends of the link against each other, over a simulated network with a simulated clock."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import credit, ledger, wire
from pipeline.errors import WireError
from pipeline.receiving import ReceivingEnd
from pipeline.sending import SendingEnd
from pipeline.stage import Context
from pipeline.types import Packet
from pipeline.wire import parse, serialize

MS = 1_000_000
START_NS = 1_000_000_000_000
AHEAD_NS = 40 * MS
"""The decoder's wall clock."""


class FakeClock:
    """Time that stands still until it is told to pass."""

    def __init__(self):
        self.now_ns = 0
        self.ahead_ns = 0

    def shifted(self, ahead_ns):
        other = FakeClock()
        other.__dict__ = {"parent": self, "ahead_ns": ahead_ns}
        return other

    def monotonic_ns(self):
        return self.__dict__.get("parent", self).now_ns

    def wall_ns(self):
        return START_NS + self.ahead_ns + self.monotonic_ns()

    def sleep(self, seconds: float, until: threading.Event | None = None):
        raise AssertionError("nothing sleeps here")


def packet(frame_id, role="primary", taken_ns=START_NS):
    return Packet(
        frame_id=frame_id,
        view="left",
        role=role,
        pts_ns=frame_id * 100 * MS,
        taken_ns=taken_ns,
        model_id=bytes(8),
        width=4,
        height=2,
        quality=1.5,
        payload=bytes([frame_id % 256]) * 20,
    )


class Net:
    """An encoder, a decoder that may be replaced, and connections that may be cut."""

    def __init__(self, *, window=8, max_age_ns=None, encoder_facts=None, decoder_facts=None, delay=0):
        self.delay, self.turn = delay, 0
        self.clock = FakeClock()
        self.encoder = Context("encoder", Path(), clock=self.clock, facts=encoder_facts or {})
        self.decoder_facts = decoder_facts or {}
        self.settings = {"window": window, "max_age_ns": max_age_ns}
        self.connections = 0
        self.tap = Counter()
        self.written = []
        self.chain = []
        self.cut = False
        self.start_encoder()
        self.start_decoder()

    def start_encoder(self):
        self.sender = SendingEnd(self.encoder, "tcp://decoder:1", **self.settings)
        self.connect()

    def start_decoder(self):
        self.decoder = Context("decoder", Path(), clock=self.clock.shifted(AHEAD_NS), facts=dict(self.decoder_facts))
        self.receiver = ReceivingEnd(self.decoder, "tcp://*:1")
        self.decoder.ledger.watch(self.receiver.settle)
        self.chain = []
        self.drop_traffic()
        self.connect()

    def connect(self):
        self.connections += 1
        self.identity = b"%d" % self.connections
        self.drop_traffic()

    def drop_traffic(self):
        self.up, self.down = [], []

    def step(self, ms=10, lose=lambda data: data):
        """One turn of everything."""
        self.clock.now_ns += ms * MS
        self.turn += 1
        if self.sender.reconnect:
            self.connect()
            self.sender.reconnected()
        for message in self.sender.outgoing():
            data = serialize(message)
            if isinstance(message, Packet):
                self.sender.handed_over(message, len(data))
                self.tap[message.role] += len(data)
            self.up.append((self.turn, data))
        while self.up and self.up[0][0] <= self.turn - self.delay and not self.cut:
            self.receiver.handle(self.identity, lose(self.up.pop(0)[1]))
        for identity, message in self.receiver.outgoing():
            if identity == self.identity:
                self.down.append((self.turn, serialize(message)))
        while self.down and self.down[0][0] <= self.turn - self.delay and not self.cut:
            self.sender.handle(parse(self.down.pop(0)[1]))

    def digest(self, *, behind=0):
        """The decoder's chain takes all there is and writes all but the last `behind`."""
        while (head := self.receiver.inbox.head()) is not None:
            self.chain.append(head)
            self.receiver.consumed()
        while len(self.chain) > behind:
            item = self.chain.pop(0)
            self.written.append((item.frame_id, item.role))
            if item.role == "primary":
                self.decoder.ledger.frame_out(item.frame_id)

    def carry(self, packets, *, event=lambda net, i: None, behind=3, turns=3000, lose=lambda data: data):
        """Send all packets through to the confirmed end."""
        waiting = list(packets)
        for i in range(turns):
            event(self, i)
            self.step(lose=lose)
            while waiting and self.sender.room_for(waiting[0]):
                item = waiting.pop(0)
                self.encoder.ledger.frame_in(item.frame_id, item.pts_ns)
                self.sender.offer(item)
            if not waiting:
                self.sender.finish()
            self.digest(behind=0 if self.receiver.ended else behind)
            if self.receiver.ended and self.receiver.inbox.head() is None and not self.chain:
                self.receiver.confirm()
            if self.sender.over:
                self.step()
                return
        raise AssertionError("the end was never confirmed")


def test_everything_arrives_once_in_order_and_is_accounted():
    net = Net()
    net.carry([packet(i) for i in range(200)])
    assert net.written == [(i, "primary") for i in range(200)]
    assert net.receiver.gone
    assert len(net.sender.outbox) == 0
    assert net.encoder.ledger.counts() == {"out": 200}
    assert net.decoder.ledger.counts() == {"out": 200}
    assert sum(row.values["wire_bytes"] for row in net.decoder.ledger.rows()) == net.tap["primary"] == 200 * 116
    assert net.encoder.metrics.wire_bytes.labels("primary")._value.get() == net.tap["primary"]
    assert net.decoder.metrics.received_bytes.labels("primary")._value.get() == net.tap["primary"]
    assert net.encoder.metrics.registry.get_sample_value("sidecast_packet_age_seconds_count") == 200


def test_every_frame_tells_by_how_much_the_clocks_differ():
    net, told = Net(delay=2), []
    net.carry([packet(i) for i in range(30)], event=lambda net, i: told.extend(p.clock_offset_ns for p in net.chain))
    assert set(told) == {AHEAD_NS}


def test_decoder_that_comes_later_is_waited_for():
    net = Net()
    net.cut = True

    def event(net, i):
        net.cut = i < 700

    net.carry([packet(i) for i in range(20)], event=event)
    assert [i for i, _ in net.written] == list(range(20))


@pytest.mark.parametrize("seed", range(10))
def test_cut_connections_lose_and_repeat_nothing(seed):
    rng = random.Random(seed)
    net = Net(delay=2)

    def event(net, i):
        if i < 2000 and rng.random() < 0.05:
            net.drop_traffic()
            net.sender.lost()

    net.carry([packet(i // 2, "side" if i % 2 else "primary") for i in range(120)], event=event, turns=6000)
    assert sorted(net.written) == sorted((i // 2, "side" if i % 2 else "primary") for i in range(120))
    assert [i for i, role in net.written if role == "primary"] == list(range(60))
    assert net.encoder.metrics.reconnects._value.get() > 0


@pytest.mark.parametrize("silent_ms", [2500, 9000])
def test_network_that_falls_silent_and_returns_loses_nothing(silent_ms):
    net = Net()

    def event(net, i):
        net.cut = 10 <= i < 10 + silent_ms // 10

    net.carry([packet(i) for i in range(300)], event=event)
    assert [i for i, _ in net.written] == list(range(300))


@pytest.mark.parametrize("seed", range(5))
def test_decoder_that_dies_and_returns_gets_all_that_was_not_written(seed):
    rng = random.Random(seed)
    net = Net(delay=1)

    def event(net, i):
        if rng.random() < 0.1 and not net.receiver.ended:
            for _ in range(3):
                net.step()  # what was written is acknowledged; what the chain still holds dies with it
            net.start_decoder()

    net.carry([packet(i) for i in range(200)], event=event, turns=6000)
    assert [i for i, _ in net.written] == list(range(200))
    assert net.encoder.metrics.resent._value.get() > 0
    assert net.encoder.ledger.counts() == {"out": 200}
    assert set(net.decoder.ledger.counts()) == {"out"}
    wire_bytes = sum(row.values["wire_bytes"] for row in net.encoder.ledger.rows())
    assert wire_bytes == net.tap["primary"] > 200 * 116


def test_traffic_on_a_connection_without_hello_is_asked_to_introduce_itself():
    net = Net()
    for i in range(3):
        net.sender.offer(packet(i))
    net.step()
    net.step()
    net.start_decoder()  # the socket reconnects by itself: the encoder has noticed nothing
    net.step(1000)
    assert net.sender.reconnect
    net.carry([packet(i) for i in range(3, 20)])
    assert [i for i, _ in net.written] == list(range(20))


def test_hellos_of_a_connection_that_was_given_up_do_not_bring_it_back(caplog):
    net = Net()

    def hello(identity, after_ms):
        sent_ns = net.clock.wall_ns() + after_ms * MS
        net.receiver.handle(identity, serialize(wire.Envelope(wire.Hello(wire.FORMAT), net.sender.stream_id, sent_ns)))
        return [peer for peer, _ in net.receiver.outgoing()]

    with caplog.at_level("INFO", logger="sidecast"):
        assert hello(b"old", 0) == [b"old"]
        assert hello(b"new", 3000) == [b"new"]
        assert hello(b"old", 500) == []
        assert hello(b"new", 3500) == [b"new"]
        assert "is back" not in caplog.text
        net.clock.now_ns += 3001 * MS  # by a clock that was set back the next one seems old, but nobody else is there
        assert hello(b"newest", -9000) == [b"newest"]


def test_encoder_that_dies_and_repeats_its_recording_is_heard_where_it_left_off():
    net = Net()
    for i in range(5):
        net.sender.offer(packet(i))
    for _ in range(5):
        net.step()
        net.digest()
    net.encoder = Context("encoder", Path(), clock=net.clock)
    net.start_encoder()
    net.carry([packet(i) for i in range(30)])
    assert [i for i, _ in net.written] == list(range(30))
    assert net.clock.now_ns > 3_000 * MS
    assert net.encoder.ledger.counts() == {"out": 30}


def test_encoder_that_repeats_a_recording_after_a_long_time_brings_no_frame_twice(monkeypatch):
    monkeypatch.setattr(credit, "REMEMBERED", 16)
    monkeypatch.setattr(ledger, "BATCH", 8)
    net = Net()
    net.decoder.ledger = ledger.Ledger(recent=16)
    net.decoder.ledger.watch(net.receiver.settle)
    for i in range(100):
        net.encoder.ledger.frame_in(i, packet(i).pts_ns)
        net.sender.offer(packet(i))
        net.step()
        net.digest()
    for _ in range(200):
        net.step()
    assert len(net.decoder.ledger._spool) >= 70
    assert len(net.receiver.inbox._seen) == len(net.receiver.inbox._settled_frames) == 16
    net.encoder = Context("encoder", Path(), clock=net.clock)
    net.start_encoder()
    net.carry([packet(i) for i in range(130)])
    assert [i for i, _ in net.written] == list(range(130))
    assert net.encoder.ledger.counts() == {"out": 130}
    assert net.decoder.ledger.counts() == {"out": 130}
    rows = net.decoder.ledger.rows()
    assert [row.frame_id for row in rows] == list(range(130))
    assert all(row.values["wire_bytes"] == 116 and "arrived_s" in row.values for row in rows)


def test_frames_dropped_while_the_decoder_is_away_for_long_wait_on_the_disk(monkeypatch):
    monkeypatch.setattr(ledger, "BATCH", 8)
    net = Net(window=2, max_age_ns=500 * MS)
    net.encoder.ledger = ledger.Ledger(recent=16)
    net.step()
    net.cut = True
    for i in range(1000, 15_000):
        net.encoder.ledger.drop(i, "latest", i)
        if i % 100 == 0:
            net.step()
    assert len(net.encoder.ledger._changed) + len(net.sender._feed) < 5000
    net.cut = False
    net.carry([packet(i, taken_ns=START_NS + net.clock.now_ns + 10_000 * MS) for i in range(3)], behind=0)
    assert net.decoder.ledger.counts() == {"out": 3, "latest": 14_000}
    assert len(net.encoder.ledger.rows()) < 16 + 8 + 3


def test_second_encoder_beside_a_living_one_is_refused_with_a_sentence():
    net = Net()
    net.step()
    rival = SendingEnd(Context("rival", Path(), clock=net.clock), "tcp://decoder:1", 8)
    answers = []
    for _ in range(300):
        net.step()
        for message in rival.outgoing():
            net.receiver.handle(b"rival", serialize(message))
        answers += [m for identity, m in net.receiver.outgoing() if identity == b"rival"]
    assert isinstance(answers[0].body, wire.Error)
    rival.handle(answers[0])
    assert "already serves another encoder" in str(rival.error)
    assert net.sender.up
    assert net.receiver.error is None
    net.carry([packet(0)])


def test_live_drops_old_packets_at_a_reconnect_and_counts_them():
    net = Net(window=2, max_age_ns=500 * MS)
    net.step()
    net.step()
    net.cut = True
    for i in range(2):
        net.encoder.ledger.frame_in(i, 0)
        net.sender.offer(packet(i, taken_ns=START_NS + net.clock.now_ns))
    assert not net.sender.room_for(packet(0))
    for _ in range(600):
        net.step()
    net.cut = False
    for _ in range(100):
        net.step()
    assert net.sender.room_for(packet(0))
    net.carry([packet(2, taken_ns=START_NS + net.clock.now_ns)])
    assert net.written == [(2, "primary")]
    assert net.encoder.ledger.counts() == {"stale": 2, "out": 1}
    assert net.decoder.ledger.counts() == {"stale": 2, "out": 1}


@pytest.mark.parametrize(("every", "oldest_ms"), [(4, 250), (12, 250), (30, 600)])
def test_live_lets_out_no_more_than_a_slow_decoder_gets_done_in_time(every, oldest_ms):
    """A decoder that has a channel of any length, and finishes a frame each `every` turns of 10 ms."""
    net = Net(window=2, max_age_ns=1000 * MS)
    offered, ages = list[int](), list[int]()
    for turn in range(1000):
        net.step()
        while net.sender.room_for(item := packet(len(offered))):
            net.encoder.ledger.frame_in(item.frame_id, 0)
            net.sender.offer(item)
            offered.append(net.clock.now_ns)
        waiting = len(net.chain) + len(net.receiver.inbox)
        net.digest(behind=max(0, waiting - (turn % every == 0)))
        ages += [(net.clock.now_ns - offered[i]) // MS for i, _ in net.written[len(ages) :]]
    assert len(ages) >= 1000 // every - 3
    assert max(ages[5:]) <= oldest_ms


def test_live_does_not_keep_back_what_belongs_to_a_frame_that_was_let_out():
    net = Net(window=2, max_age_ns=1000 * MS)
    net.step()
    net.step()
    for i in range(2):
        net.sender.offer(packet(i))
        net.step()
        net.digest(behind=9)
        net.step()
    assert not net.sender.room_for(packet(2))
    assert net.sender.room_for(packet(1, "side"))


def test_damaged_payload_costs_one_frame_and_is_counted():
    net = Net()
    hit = []

    def lose(data):
        if data[4] == 3 and data[8:16] and parse(data).frame_id == 7 and not hit:
            hit.append(1)
            return data[:-1] + b"?"
        return data

    net.carry([packet(i) for i in range(20)], lose=lose)
    assert [i for i, _ in net.written] == [i for i in range(20) if i != 7]
    assert net.decoder.ledger.counts() == {"out": 19, "corrupt": 1}
    assert net.encoder.ledger.status(7) == "corrupt"
    assert net.decoder.metrics.wire_errors._value.get() == 1


@pytest.mark.parametrize("seed", range(5))
def test_damaged_messages_of_any_kind_lose_nothing_but_damaged_frames(seed):
    rng = random.Random(seed)
    net = Net()

    def lose(data):
        if rng.random() < 0.05:
            return data[: rng.randrange(len(data))]
        return data

    net.carry([packet(i) for i in range(100)], lose=lose, turns=20_000)
    assert [i for i, _ in net.written] == list(range(100))
    assert net.decoder.metrics.wire_errors._value.get() > 0


def test_strangers_are_counted_and_change_nothing():
    net = Net()
    rng = random.Random(0)
    stranger = replace(packet(5), stream_id=1)

    def event(net, i):
        net.receiver.handle(b"stranger", rng.randbytes(rng.randrange(300)))
        net.receiver.handle(b"stranger", serialize(stranger))
        net.receiver.handle(b"stranger", serialize(wire.Envelope(wire.Error("down with you"), net.sender.stream_id)))

    net.carry([packet(i) for i in range(500)], event=event)
    assert [i for i, _ in net.written] == list(range(500))
    assert net.decoder.metrics.wire_errors._value.get() >= 150


@pytest.mark.parametrize(
    ("encoder", "decoder", "words"),
    [
        (
            {"model_id": "aa" * 8, "model": "cross"},
            {"model_id": "bb" * 8, "model": "plain"},
            ["aa" * 8, "bb" * 8, "cross", "plain", "same weights"],
        ),
    ],
)
def test_different_weights_end_both_sides_with_one_sentence(encoder, decoder, words):
    net = Net(encoder_facts=encoder, decoder_facts=decoder)
    net.step()
    assert str(net.sender.error) == f"the decoder node reported: {net.receiver.error}"
    assert all(word in str(net.receiver.error) for word in words)
    assert net.encoder.stop.is_set()


def test_other_format_ends_both_sides_with_a_sentence_that_names_both():
    net = Net()
    net.receiver.handle(b"new", serialize(wire.Envelope(wire.Hello(2), 5)))
    assert "format 2" in str(net.receiver.error)
    assert "format 1" in str(net.receiver.error)
    assert isinstance(net.receiver.outgoing()[0][1].body, wire.Error)


def test_pictures_without_weights_go_to_a_decoder_that_has_some():
    net = Net(decoder_facts={"model_id": "bb" * 8})
    net.carry([packet(0)])
    assert net.written == [(0, "primary")]


def test_facts_of_the_encoder_arrive_and_do_not_replace_the_decoders_own():
    net = Net(
        encoder_facts={"model_id": "aa", "device": "cpu", "quality": 2.5, "expected_frames": 2, "complete": 1},
        decoder_facts={"model_id": "aa", "device": "cuda", "expected_frames": None},
    )
    net.carry([packet(0), packet(0, "side"), packet(1), packet(1, "side")])
    assert net.decoder.facts == {
        "model_id": "aa",
        "device": "cuda",
        "encode_device": "cpu",
        "quality": 2.5,
        "expected_frames": 2,
        "side_bytes_on_wire": 232,
    }
    assert net.tap == {"primary": 232, "side": 232}


def test_drops_before_the_link_reach_the_decoders_ledger_in_bounded_messages():
    net = Net()
    for i in range(1000, 2000):
        net.encoder.ledger.drop(i, "latest", i)
    sizes = []
    net.carry([packet(i) for i in range(3)], lose=lambda data: sizes.append(len(data)) or data)
    assert net.decoder.ledger.counts() == {"out": 3, "latest": 1000}
    assert max(sizes) < 40_000


def test_clock_offset_is_estimated_and_travels_with_the_packets():
    net = Net()
    for _ in range(3):
        net.step(1000)
    net.sender.offer(packet(0))
    net.step(0)
    head = net.receiver.inbox.head()
    assert abs(head.clock_offset_ns - AHEAD_NS) < MS
    assert head.sent_ns == net.clock.wall_ns()


def test_end_is_confirmed_only_when_the_decoder_says_so():
    net = Net()
    net.sender.offer(packet(0))
    net.sender.finish()
    for _ in range(500):
        net.step()
        net.digest()
    assert net.receiver.ended
    assert not net.sender.over
    net.receiver.confirm()
    net.step()
    assert net.sender.over
    net.step()
    assert net.receiver.gone


def test_confirmation_that_is_lost_with_the_connection_is_repeated():
    net = Net()
    net.sender.finish()
    net.step()
    net.step()
    assert net.receiver.ended
    net.receiver.confirm()
    net.receiver.outgoing()
    net.sender.lost()
    for _ in range(5):
        net.step()
    assert net.sender.over
    assert net.receiver.gone


@pytest.mark.parametrize("failing", ["sender", "receiver"])
def test_failure_of_one_side_reaches_the_other_once(failing):
    net = Net()
    net.step()
    net.step()
    getattr(net, failing).fail("the disk is full")
    net.step()
    if failing == "sender":
        assert str(net.receiver.error) == "the encoder node reported: the disk is full"
        net.receiver.fail(str(net.receiver.error))
        assert net.receiver.outgoing() == []
    else:
        assert str(net.sender.error) == "the decoder node reported: the disk is full"
        net.sender.fail(str(net.sender.error))
        assert list(net.sender.outgoing()) == []


def test_stopped_decoder_waits_shortly_for_a_sign_that_the_encoder_stops_too():
    net = Net()
    net.step()
    net.step()
    assert not net.receiver.abandoned
    net.decoder.stop.set()
    assert not net.receiver.abandoned
    for _ in range(19):
        net.step(100)
    assert not net.receiver.abandoned
    net.step(200)
    assert net.receiver.abandoned


def test_stopped_decoder_reads_on_while_the_encoder_drains():
    net = Net()
    net.step()
    net.step()
    net.encoder.stop.set()
    net.decoder.stop.set()
    for _ in range(50):
        net.step(100)
        assert not net.receiver.abandoned
    net.cut = True
    for _ in range(51):
        net.step(100)
    assert net.receiver.abandoned


def test_stopped_decoder_finishes_what_it_has_and_takes_no_more_from_an_encoder_that_goes_on():
    net, i = Net(), 0

    def turns(count):
        nonlocal i
        for _ in range(count):
            net.step()
            while net.sender.room_for(packet(0)):
                net.sender.offer(packet(i))
                i += 1
            net.digest()

    turns(50)
    net.decoder.stop.set()
    turns(100)
    assert not net.receiver.abandoned
    turns(150)
    assert net.receiver.abandoned
    written = len(net.written)
    assert written > 100
    turns(100)
    assert len(net.written) == written
    assert net.receiver.inbox.head() is None
    assert net.decoder.ledger.counts()["out"] == written


def test_stopped_decoder_without_an_encoder_ends_at_once():
    net = Net()
    net.decoder.stop.set()
    assert net.receiver.abandoned


def test_stopped_encoder_gives_up_when_nothing_is_heard():
    net = Net()
    net.cut = True
    net.encoder.stop.set()
    for _ in range(49):
        net.step(100)
        assert not net.sender.impatient
    for _ in range(3):
        net.step(100)
    assert net.sender.impatient


@pytest.mark.parametrize(
    "message",
    [packet(1), wire.Envelope(wire.Stats(1)), wire.Envelope(wire.Eos(confirmed=True)), wire.Envelope(wire.Ack(1), 5)],
    ids=["packet", "stats", "early-eos", "other-stream"],
)
def test_sender_refuses_what_no_decoder_sends(message):
    net = Net()
    net.step()
    with pytest.raises(WireError):
        net.sender.handle(message)


def test_packet_that_does_not_fit_is_refused_at_once():
    net = Net()
    with pytest.raises(WireError, match="quality 999"):
        net.sender.offer(replace(packet(0), quality=999.0))
    net.carry([packet(0)])
