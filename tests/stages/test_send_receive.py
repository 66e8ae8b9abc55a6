"""`send` and `receive` over real sockets on this machine."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zmq
from pydantic import TypeAdapter, ValidationError

from pipeline import wire
from pipeline.errors import LinkError, SidecastError
from pipeline.stage import Context
from pipeline.types import Frame, Packet
from stages.receive import Receive
from stages.send import Send

PAYLOAD = b"p" * 50
FRAME_BYTES = wire.HEADER_BYTES + len(PAYLOAD)


def packet(frame_id, role="primary", payload=PAYLOAD):
    return Packet(
        frame_id=frame_id,
        view="left",
        role=role,
        pts_ns=frame_id * 100_000_000,
        taken_ns=time.time_ns(),
        model_id=bytes(8),
        width=8,
        height=4,
        quality=2.25,
        payload=payload,
    )


@pytest.fixture
def link() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def eventually(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


class Node(threading.Thread):
    """A node with one stage of the link, run as the runner would."""

    def __init__(self, stage, **facts):
        super().__init__(daemon=True)
        self.stage = stage
        self.context = Context("node", Path(), facts=facts)
        self.raised = None
        stage.open(self.context)
        self.start()

    def run(self):
        try:
            self.work()
        except SidecastError as error:
            self.raised = self.context.error = error
        self.before_close()
        self.stage.close()

    def before_close(self):
        pass

    def end(self, seconds=20.0):
        self.join(seconds)
        assert not self.is_alive(), "the node did not end"
        return self


class Encoder(Node):
    def __init__(self, link, packets, *, mode="lossless", budget_kbps=None, fail=None, **facts):
        self.packets, self.fail = packets, fail
        super().__init__(Send(connect=link, mode=mode, budget_kbps=budget_kbps), **facts)

    def work(self):
        for item in self.packets:
            if self.context.stop.is_set():
                break
            if item.role == "primary":
                self.context.ledger.frame_in(item.frame_id, item.pts_ns)
            assert list(self.stage.process(item)) == []
        if self.fail:
            raise SidecastError(self.fail)
        assert list(self.stage.flush()) == []


class Decoder(Node):
    def __init__(self, link, *, sinks_open=None, fail_at=None, settle=lambda item: True, **facts):
        self.got, self.sinks_open, self.fail_at, self.settle = [], sinks_open, fail_at, settle
        super().__init__(Receive(bind=link), **facts)

    def work(self):
        for item in self.stage.read():
            self.got.append(item)
            if item.frame_id == self.fail_at:
                raise SidecastError("the disk is full")
            if item.role == "primary" and self.settle(item):
                self.context.ledger.frame_out(item.frame_id)

    def before_close(self):
        if self.sinks_open:
            self.sinks_open.wait(20)

    @property
    def frame_ids(self):
        return [item.frame_id for item in self.got]


@pytest.mark.parametrize("first", ["encoder", "decoder"])
@pytest.mark.parametrize("mode", ["lossless", "live"])
def test_packets_arrive_whichever_side_starts_first(link, first, mode):
    packets = [packet(i) for i in range(200)]
    if first == "encoder":
        encoder = Encoder(link, packets, mode=mode)
        decoder = Decoder(link)
    else:
        decoder = Decoder(link)
        encoder = Encoder(link, packets, mode=mode)
    encoder.end()
    decoder.end()
    assert encoder.raised is decoder.raised is None
    assert decoder.frame_ids == list(range(200))
    assert [(p.payload, p.pts_ns, p.quality) for p in decoder.got] == [
        (p.payload, p.pts_ns, p.quality) for p in packets
    ]
    assert decoder.context.facts["complete"] is True
    assert encoder.context.ledger.counts() == {"out": 200}


def test_wire_bytes_are_what_a_tap_on_the_line_counts(link, monkeypatch):
    tap = {"primary": 0, "side": 0, "reference": 0}
    handle = wire.parse

    def counted(data):
        message = handle(data)
        if isinstance(message, Packet):
            tap[message.role] += len(data)
        return message

    monkeypatch.setattr("pipeline.receiving.parse", counted)
    packets = [
        item for i in range(20) for item in (packet(i), packet(i, "side", b"s" * 30), packet(i, "reference", b"r" * 70))
    ]
    decoder = Decoder(link)
    encoder = Encoder(link, packets).end()
    decoder.end()
    rows = decoder.context.ledger.rows()
    assert sum(row.values["wire_bytes"] for row in rows) == tap["primary"] == 20 * FRAME_BYTES
    assert decoder.context.facts["side_bytes_on_wire"] == tap["side"] == 20 * (wire.HEADER_BYTES + 30)
    assert decoder.context.facts["reference_bytes_on_wire"] == tap["reference"]
    for role, count in tap.items():
        assert encoder.context.metrics.wire_bytes.labels(role)._value.get() == count


def test_the_budget_is_stated_and_known_at_the_decoder(link):
    decoder = Decoder(link)
    encoder = Encoder(link, [packet(0)], budget_kbps=800)
    encoder.end()
    decoder.end()
    assert encoder.context.metrics.registry.get_sample_value("sidecast_budget_bytes_per_second") == 100_000
    assert decoder.context.facts["budget_kbps"] == 800


CHILD = """
import sys, threading
from pathlib import Path
from pipeline.stage import Context
from stages.receive import Receive
context = Context("decoder", Path())
stage = Receive(bind=sys.argv[1])
stage.open(context)
for item in stage.read():
    if item.frame_id < 30:
        context.ledger.frame_out(item.frame_id)
    if item.frame_id == 36:
        threading.Event().wait()
"""


def test_decoder_that_is_killed_and_started_again_gets_the_rest_exactly_once(link):
    with subprocess.Popen([sys.executable, "-c", CHILD, link]) as child:
        encoder = Encoder(link, [packet(i) for i in range(200)])
        eventually(lambda: encoder.context.ledger.counts()["out"] == 30)
        eventually(lambda: encoder.context.metrics.credits._value.get() == 0)
        child.kill()
    decoder = Decoder(link)
    encoder.end()
    decoder.end()
    assert encoder.raised is decoder.raised is None
    assert decoder.frame_ids == list(range(30, 200))
    assert encoder.context.ledger.counts() == {"out": 200}
    assert decoder.context.ledger.counts() == {"out": 170}
    assert encoder.context.metrics.reconnects._value.get() == 1
    resent = encoder.context.metrics.resent._value.get()
    assert resent >= 7
    sent = sum(row.values["wire_bytes"] for row in encoder.context.ledger.rows())
    assert sent == (200 + resent) * FRAME_BYTES


def test_encoder_that_dies_and_comes_back_is_taken_on_without_repetition(link):
    class Dying(Encoder):
        def work(self):
            for item in self.packets[:10]:
                list(self.stage.process(item))
            eventually(lambda: self.context.ledger.counts()["out"] == 10)
            self.stage._end._peer_failed = True  # says nothing any more, as if it had been killed

    decoder = Decoder(link)
    packets = [packet(i) for i in range(40)]
    Dying(link, packets).end()
    encoder = Encoder(link, packets).end()
    decoder.end()
    assert encoder.raised is decoder.raised is None
    assert decoder.frame_ids == list(range(40))


def test_back_pressure_holds_the_encoder_at_its_window(link):
    class Slow(Decoder):
        def work(self):
            for item in self.stage.read():
                self.got.append(item)
                go.wait(20)
                self.context.ledger.frame_out(item.frame_id)

    go = threading.Event()
    decoder = Slow(link)
    taken = []

    def packets():
        for i in range(30):
            taken.append(i)
            yield packet(i)

    encoder = Encoder(link, packets())
    eventually(lambda: len(taken) == 9)
    eventually(lambda: encoder.context.metrics.credits._value.get() == 0)
    assert len(taken) == 9
    go.set()
    encoder.end()
    assert decoder.end().frame_ids == list(range(30))


def test_end_is_confirmed_only_after_the_sinks_are_closed(link):
    closed = threading.Event()
    decoder = Decoder(link, sinks_open=closed)
    encoder = Encoder(link, [packet(i) for i in range(5)])
    eventually(lambda: encoder.context.ledger.counts()["out"] == 5)
    eventually(lambda: decoder.stage._end.ended)
    encoder.join(0.3)
    assert encoder.is_alive()
    closed.set()
    encoder.end()
    decoder.end()


def test_different_weights_end_both_sides_with_a_sentence_that_names_both(link):
    decoder = Decoder(link, model_id="bb" * 8, model="plain")
    encoder = Encoder(link, [packet(0)], model_id="aa" * 8, model="cross")
    encoder.end()
    decoder.end()
    assert isinstance(encoder.raised, LinkError)
    assert isinstance(decoder.raised, LinkError)
    for sentence in (str(encoder.raised), str(decoder.raised)):
        assert all(word in sentence for word in ("aa" * 8, "bb" * 8, "cross", "plain"))
    assert decoder.context.facts["complete"] is False


def test_weights_that_are_known_only_after_open_are_compared(link):
    class Late(Decoder):
        def work(self):
            self.context.facts["model_id"] = "bb"
            super().work()

    encoder = Encoder(link, [packet(0)], model_id="aa")
    assert isinstance(Late(link).end().raised, LinkError)
    assert isinstance(encoder.end().raised, LinkError)


def test_failure_of_the_decoder_ends_the_encoder_with_its_sentence(link):
    encoder = Encoder(link, [packet(i) for i in range(100)])
    decoder = Decoder(link, fail_at=20).end()
    assert str(encoder.end().raised) == "the decoder node reported: the disk is full"
    assert str(decoder.raised) == "the disk is full"


def test_failure_of_the_encoder_ends_the_decoder_with_its_sentence(link):
    decoder = Decoder(link)
    Encoder(link, [packet(i) for i in range(20)], fail="frame 20 is torn").end()
    assert str(decoder.end().raised) == "the encoder node reported: frame 20 is torn"
    assert decoder.context.facts["complete"] is False


def test_stopped_encoder_finishes_what_it_has(link):
    decoder = Decoder(link)

    def packets():
        for i in range(10):
            yield packet(i)
        encoder.context.stop.set()

    encoder = Encoder(link, packets())
    encoder.end()
    decoder.end()
    assert encoder.raised is decoder.raised is None
    assert decoder.frame_ids == list(range(10))
    assert decoder.context.facts["complete"] is True


def test_stopped_decoder_tells_the_encoder(link):
    decoder = Decoder(link)

    def packets():
        for i in range(10_000):
            time.sleep(0.01)
            yield packet(i)

    encoder = Encoder(link, packets())
    eventually(lambda: len(decoder.got) > 3)
    decoder.settle = lambda item: decoder.context.stop.set() or True
    encoder.end()
    decoder.end()
    assert decoder.raised is None
    assert "the decoder node was stopped" in str(encoder.raised)
    assert decoder.context.facts["complete"] is False


def test_stopped_encoder_without_decoder_ends_with_a_sentence(link, monkeypatch):
    monkeypatch.setattr("pipeline.sending.STOP_PATIENCE_NS", 200_000_000)
    encoder = Encoder(link, [packet(0)])
    encoder.context.stop.set()
    encoder.packets = []
    assert "did not answer" in str(encoder.end().raised)


def test_error_elsewhere_in_the_node_frees_a_blocked_encoder(link):
    encoder = Encoder(link, [packet(i) for i in range(100)])
    eventually(lambda: not encoder.stage._end.room_for(packet(0)))
    encoder.context.error = SidecastError("the camera is gone")
    encoder.end()
    assert encoder.raised is None


def test_hostile_messages_are_counted_and_the_run_goes_on(link, caplog):
    go = threading.Event()
    decoder = Decoder(link)
    foes = zmq.Context()
    foe = foes.socket(zmq.DEALER)
    foe.linger = 0
    foe.connect(link)

    def packets():
        for i in range(40):
            if i == 20:
                go.wait(20)
            yield packet(i)

    encoder = Encoder(link, packets())
    eventually(lambda: len(decoder.got) == 20)
    with caplog.at_level(logging.WARNING, logger="sidecast"):
        for data in (b"", b"SDC1", b"\xff" * 500, wire.serialize(packet(7)), bytes(96)):
            foe.send(data)
        foe.send_multipart([b"many", b"parts"])
        foe.send(wire.serialize(wire.Envelope(wire.Eos(), encoder.stage._end.stream_id)))
        eventually(lambda: decoder.context.metrics.wire_errors._value.get() == 7)
    go.set()
    encoder.end()
    decoder.end()
    foe.close()
    foes.term()
    assert decoder.frame_ids == list(range(40))
    assert 1 <= sum("refused at" in record.message for record in caplog.records) <= 3


def test_second_encoder_is_refused_while_the_first_is_served(link):
    go = threading.Event()
    decoder = Decoder(link)

    def packets():
        yield packet(0)
        go.wait(20)
        yield packet(1)

    encoder = Encoder(link, packets())
    eventually(lambda: len(decoder.got) == 1)
    rival = Encoder(link, [packet(9)]).end()
    assert "already serves another encoder" in str(rival.raised)
    go.set()
    encoder.end()
    assert decoder.end().frame_ids == [0, 1]


def test_port_in_use_is_one_sentence_with_the_address_and_a_remedy(link):
    first, second = Receive(bind=link), Receive(bind=link)
    first.open(Context("one", Path()))
    with pytest.raises(LinkError, match=rf"cannot listen at {link}: the port is in use; .*choose another port"):
        second.open(Context("two", Path()))
    first.close()


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        (Receive(bind="tcp://0.0.0.0:5555"), "insecure: true"),
        (Receive(bind="tcp://*:5555"), "insecure: true"),
        (Receive(bind="5555"), "no address"),
        (Receive(bind="tcp://192.0.2.1:5555", insecure=True), "cannot listen"),
        (Send(connect="tcp://192.0.2.1:5555"), "insecure: true"),
        (Send(connect="http://127.0.0.1:1"), "no address"),
        (Send(connect="tcp://127.0.0.1:*"), "cannot connect"),
    ],
)
def test_address_that_will_not_do_is_refused_with_a_sentence(stage, sentence):
    with pytest.raises(LinkError, match=sentence):
        stage.open(Context("node", Path()))


def test_insecure_address_is_said_in_the_log(caplog):
    stage = Receive(bind="tcp://0.0.0.0:*", insecure=True)
    with caplog.at_level(logging.WARNING, logger="sidecast"):
        context = Context("decoder", Path())
        stage.open(context)
        reader = threading.Thread(target=lambda: list(stage.read()))
        reader.start()
        eventually(lambda: "insecure: whoever reaches" in caplog.text)
        context.stop.set()
        reader.join()
        stage.close()


def test_message_beyond_the_limit_is_cut_off_before_it_is_stored(link, monkeypatch):
    monkeypatch.setattr("stages.receive.MAX_MESSAGE", 20_000)
    decoder = Decoder(link)
    foes = zmq.Context()
    foe = foes.socket(zmq.DEALER)
    foe.linger = 0
    foe.connect(link)
    foe.send(bytes(30_000))
    encoder = Encoder(link, [packet(i) for i in range(40)]).end()
    assert decoder.end().frame_ids == list(range(40))
    assert encoder.raised is None
    assert decoder.context.metrics.wire_errors._value.get() == 0
    foe.close()
    foes.term()


def test_what_is_no_packet_passes_by(link):
    stage = Send(connect=link)
    stage.open(Context("encoder", Path()))
    frame = Frame(np.zeros((2, 2, 3), np.uint8), "left", 0, 0, 0)
    assert list(stage.process(frame)) == [frame]
    stage.close()


def test_receive_that_was_never_read_closes(link):
    stage = Receive(bind=link)
    stage.open(Context("decoder", Path()))
    assert stage.address == link
    stage.close()


def test_settings_are_validated():
    assert TypeAdapter(Send).validate_python({"connect": "tcp://127.0.0.1:5"}).mode == "lossless"
    with pytest.raises(ValidationError):
        TypeAdapter(Send).validate_python({"connect": "tcp://127.0.0.1:5", "mode": "fast"})
    with pytest.raises(ValidationError):
        TypeAdapter(Receive).validate_python({"bind": "tcp://127.0.0.1:5", "_closing": True})
