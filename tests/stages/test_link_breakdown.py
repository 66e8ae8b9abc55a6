"""`send` and `receive` in nodes that fail in ways nobody has thought of: both nodes end, with a sentence."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq

from pipeline.config.model import Node, StageEntry
from pipeline.errors import LinkError, SidecastError, SourceError, StageError
from pipeline.receiving import ReceivingEnd
from pipeline.runner import Runner
from pipeline.sending import SendingEnd
from pipeline.stage import Context, Source, Stage
from pipeline.types import Item, Packet
from stages.receive import Receive
from stages.send import Send


@dataclass(kw_only=True)
class Packets(Source):
    """Packets without end, as fast as the link takes them."""

    def open(self, context: Context) -> None:
        self._context = context

    def read(self) -> Iterator[Item]:
        i = 0
        while not self._context.stop.is_set():
            yield Packet(i, "left", "primary", i * 10**8, time.time_ns(), bytes(8), 8, 4, 1.0, b"p" * 50)
            i += 1


@dataclass(kw_only=True)
class Sink(Stage):
    """Takes everything; may be unable to open."""

    fault: str = ""

    def open(self, context: Context) -> None:
        if self.fault:
            raise SourceError(self.fault)

    def process(self, item: Item) -> Iterator[Item]:
        yield item


class Running(threading.Thread):
    """A node in a thread of its own."""

    def __init__(self, name: str, *stages: Stage) -> None:
        super().__init__(daemon=True)
        entries = [StageEntry(type(s).__name__.lower(), type(s).__name__.lower(), s, None, 1) for s in stages]
        self.context = Context(name, Path())
        self.runner = Runner(Node(name, None, False, entries), self.context)
        self.raised: SidecastError | None = None
        self.start()
        self.runner.ready.wait(1)  # the runner that starts last hears of threads that die: one process, one runner

    def run(self) -> None:
        try:
            self.runner.run()
        except SidecastError as error:
            self.raised = error

    def sentence(self) -> str:
        self.join(15)
        assert not self.is_alive(), "the node did not end"
        return str(self.raised)


@pytest.fixture
def link() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def break_after(monkeypatch: pytest.MonkeyPatch, cls: type, turns: int) -> None:
    """`outgoing` of one end of the link fails with what no caller expects."""
    outgoing: Callable = cls.outgoing
    left = [turns]

    def breaking(self):
        left[0] -= 1
        if left[0] < 0:
            raise ZeroDivisionError("the unexpected")
        return outgoing(self)

    monkeypatch.setattr(cls, "outgoing", breaking)


@pytest.mark.parametrize("end", [SendingEnd, ReceivingEnd])
@pytest.mark.parametrize("turns", [0, 30])
def test_what_nobody_expected_in_the_links_thread_ends_both_nodes(link, monkeypatch, end, turns):
    break_after(monkeypatch, end, turns)
    begin = time.monotonic()
    if end is SendingEnd:
        other = Running("decoder", Receive(bind=link), Sink())
        broken = Running("encoder", Packets(), Send(connect=link))
    else:
        other = Running("encoder", Packets(), Send(connect=link))
        broken = Running("decoder", Receive(bind=link), Sink())
    assert "ZeroDivisionError: the unexpected" in broken.sentence()
    assert isinstance(broken.raised, StageError)
    if turns:
        assert "node reported: its link broke down: the unexpected" in other.sentence()
    else:  # they never met, so it is as if the other had never been started
        other.context.stop.set()
        other.sentence()
    assert time.monotonic() - begin < 25
    with zmq.Context() as free, free.socket(zmq.ROUTER) as probe:
        probe.bind(link)


def test_socket_that_cannot_be_made_again_ends_both_nodes(link, monkeypatch):
    decoder = Running("decoder", Receive(bind=link), Sink())
    send = Send(connect=link)
    encoder = Running("encoder", Packets(), send)
    while encoder.context.ledger.counts()["out"] < 5:
        time.sleep(0.01)

    def fail(self, address):
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr(zmq.Socket, "connect", fail)
    with send._changed:
        send._end.lost()
    assert "send-link: ZMQError: Too many open files" in encoder.sentence()
    decoder.context.stop.set()
    decoder.sentence()


def test_encoder_that_waits_for_a_decoder_that_cannot_start_hears_why(link):
    encoder = Running("encoder", Packets(), Send(connect=link))
    time.sleep(0.3)
    decoder = Running("decoder", Receive(bind=link), Sink(fault="nowhere: there is no such drive"))
    assert decoder.sentence() == "nowhere: there is no such drive"
    assert encoder.sentence() == "the decoder node reported: nowhere: there is no such drive"
    assert isinstance(encoder.raised, LinkError)


def test_decoder_that_cannot_start_and_is_alone_ends_soon(link):
    begin = time.monotonic()
    decoder = Running("decoder", Receive(bind=link), Sink(fault="nowhere: there is no such drive"))
    assert decoder.sentence() == "nowhere: there is no such drive"
    assert time.monotonic() - begin < 10


def test_encoder_that_dialled_again_while_the_decoder_started_is_not_back(link, monkeypatch, caplog):
    monkeypatch.setattr("pipeline.sending.SILENCE_NS", 200_000_000)
    receive = Receive(bind=link)
    context = Context("decoder", Path())
    receive.open(context)
    encoder = Running("encoder", Packets(), Send(connect=link))
    time.sleep(1.0)
    with caplog.at_level(logging.INFO, logger="sidecast"):
        monkeypatch.undo()
        items = receive.read()
        assert isinstance(next(items), Packet)
    encoder.context.stop.set()
    assert list(items)
    receive.close()
    assert encoder.raised is None
    assert "an encoder has connected" in caplog.text
    assert "is back" not in caplog.text
