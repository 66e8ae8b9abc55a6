"""The HTTP endpoint of a node: what it answers, and what it refuses."""

from __future__ import annotations

import logging
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from pipeline.errors import ConfigError, LinkError
from pipeline.http import HttpServer
from pipeline.stage import Context


@pytest.fixture
def node(tmp_path) -> Context:
    return Context("encoder", tmp_path)


@pytest.fixture
def server(node) -> Iterator[HttpServer]:
    with HttpServer("127.0.0.1:0", node, lambda: node.facts.get("ready", False)) as running:
        yield running


class Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def get(server: HttpServer, path: str, **headers: str) -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_metrics_are_there_as_text_whatever_is_asked_for(server, node):
    node.metrics.frames_in.inc(3)
    status, kind, text = get(server, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert "sidecast_frames_in_total 3.0" in text
    assert "_created" not in text
    prometheus_asks = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    assert get(server, "/metrics?x=1", Accept=prometheus_asks)[1] == kind


def test_being_asked_each_second_takes_less_than_a_hundredth_of_a_core(server, node):
    for i in range(8):
        node.metrics.stage_seconds.labels(f"stage{i}").observe(0.1)
        node.metrics.latency_seconds.labels(f"cause{i}").observe(0.1)
    begin_ns = server.cpu_ns
    for _ in range(20):
        assert get(server, "/metrics")[0] == 200
    assert 0 < (server.cpu_ns - begin_ns) / 20 < 10_000_000


def test_ready_follows_the_stages(server, node):
    assert get(server, "/readyz")[0] == 503
    node.facts["ready"] = True
    assert get(server, "/readyz") == (200, "text/plain; charset=utf-8", "ready\n")


def test_live_until_an_error(server, node):
    assert get(server, "/livez")[0] == 200
    node.error = ValueError("x")
    assert get(server, "/livez")[0] == 503


def test_other_paths_and_methods_are_refused(server):
    assert get(server, "/etc/passwd")[0] == 404
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(b"POST /metrics HTTP/1.0\r\n\r\n")
        assert b"501" in client.recv(100)


def test_a_client_that_hangs_up_prints_nothing(server, capfd):
    for start in (b"", b"GET /met", b"\0\xff\n\n", b"GET /metrics HTTP/1.0\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(start)
    assert get(server, "/livez")[0] == 200
    assert capfd.readouterr().err == ""


def test_too_many_requests_at_once_are_turned_away(server):
    waiting = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(8)]
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.settimeout(5)
        assert client.recv(10) == b""
    for client in waiting:
        client.close()


def test_a_port_in_use_is_one_sentence(server, node):
    with pytest.raises(LinkError, match=rf"node 'encoder' cannot listen on 127.0.0.1:{server.port}: Address already"):
        HttpServer(f"127.0.0.1:{server.port}", node, lambda: True)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "*:0", "[::]:0", "example.org:80"])
def test_an_address_that_others_reach_is_refused(node, address):
    with pytest.raises(ConfigError, match="insecure: true"):
        HttpServer(address, node, lambda: True)


def test_nonsense_is_no_address(node):
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        HttpServer("9101", node, lambda: True)


def test_an_insecure_address_is_opened_and_logged(node):
    node.log, said = logging.Logger("alone", logging.INFO), Said()  # a logger that no other test has touched
    node.log.addHandler(said)
    with HttpServer("0.0.0.0:0", node, lambda: True, insecure=True) as running:
        assert get(running, "/livez")[0] == 200
        deadline = time.monotonic() + 5
        while not said.lines and time.monotonic() < deadline:
            time.sleep(0.01)  # the server's own thread says it; asking it from here as well would be a race
        running._server.service_actions()
    assert said.lines == ["http: 0.0.0.0:0 is open to other machines (insecure: true)"]
