"""What is served below /dashboard, over real connections: files, events, pictures; names, floods and strangers."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from importlib import resources

import pytest
from simulated import Node, decoded

from pipeline.dashboard import dashboard as served
from pipeline.dashboard import events, pictures


@pytest.fixture
def node(tmp_path):
    with Node(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    """A node that no test changes."""
    with Node(tmp_path_factory.mktemp("idle")) as running:
        yield running


def get(node: Node, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", node.server.port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def opened(node: Node) -> socket.socket:
    """A page's connection, its request sent."""
    page = socket.create_connection(("127.0.0.1", node.server.port), timeout=10)
    page.sendall(b"GET /dashboard/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return page


def until(page: socket.socket, sign: bytes) -> bytes:
    data = b""
    while sign not in data:
        data += page.recv(65536)
    return data


def test_the_page_and_all_that_it_names_are_there_and_nothing_else_may_be_loaded(idle):
    status, headers, page = get(idle, "/dashboard")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    names = set(re.findall(r'(?:href|src)="([^"#]+)"', page.decode()))
    assert names == {"dashboard/icon.svg", "dashboard/page.css", "dashboard/page.js", "metrics"}
    for name in names:
        assert get(idle, f"/{name}")[0] == 200
    for path in served.FILES:
        assert get(idle, f"/dashboard{path}")[0] == 200
    files = (resources.files("pipeline.dashboard").joinpath(name).read_text() for name, _ in served.FILES.values())
    assert set(re.findall(r"https?://[^\s'\"]+", "".join(files))) == {"http://www.w3.org/2000/svg"}


def test_the_root_leads_to_the_page(idle):
    assert get(idle, "/")[:2][1]["Location"] == "dashboard"
    assert get(idle, "/dashboard/")[1]["Location"] == "../dashboard"
    assert get(idle, "/metrics")[0] == 200


@pytest.mark.parametrize(
    "path", ["/dashboard/../ledger.py", "/dashboard/live.py", "/dashboard/pictures/9/1.jpg", "/dashboardx"]
)
def test_nothing_else_is_served(idle, path):
    assert get(idle, path)[0] == 404


def test_a_page_gets_everything_of_the_streams(node):
    node.frames(50)
    with opened(node) as page:
        data = until(page, b"\n\nevent: news")
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"Content-Type: text/event-stream" in head
    whole = json.loads(body.split(b"data: ")[1].split(b"\n\n")[0])
    assert (whole["node"], whole["kind"]) == ("decoder", "live")
    assert whole["streams"][0]["run"]["frames_out"] == 50


def test_a_picture_comes_with_what_it_shows(node, monkeypatch):
    monkeypatch.setattr(pictures, "SHARE", 1e9)
    node.pictures[0].offer(decoded(3))
    with opened(node) as page:
        until(page, b'"picture":1')
    status, headers, body = get(node, "/dashboard/pictures/0/1.jpg")
    assert (status, headers["Content-Type"], body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert json.loads(headers["Sidecast-Picture"])["tiles"][0]["name"] == "decoded"
    assert get(node, "/dashboard/pictures/0/2.jpg")[0] == 204


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9102", 200),
        ("localhost", 200),
        ("localhost:8080", 200),
        ("[::1]:9102", 200),
        ("192.168.1.7", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:9102", 403),
        ("", 403),
    ],
)
def test_only_names_of_this_machine_reach_a_page_that_only_it_may_see(idle, host, status):
    assert get(idle, "/dashboard", Host=host)[0] == status
    assert get(idle, "/dashboard/events", "HEAD", Host=host)[0] == status


def test_fifty_pages_and_their_requests_at_once_are_served(node):
    pages = [opened(node) for _ in range(50)]
    for page in pages:
        until(page, b"event: whole")
    assert node.dashboard.pages == 50
    assert get(node, "/livez")[0] == 200
    for page in pages:
        page.close()
    deadline = time.monotonic() + 10
    while node.dashboard.pages:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_page_too_many_is_told_so(node, monkeypatch):
    monkeypatch.setattr(events, "MAX_PAGES", 2)
    with opened(node) as one, opened(node) as two:
        assert until(one, b"whole")
        assert until(two, b"whole")
        with opened(node) as third:
            said = until(third, b"sentence")
            assert b"event: refused" in said
            assert b"pages of this dashboard are open already" in said + third.recv(1000)
        assert until(one, b"event: news")


def test_what_the_server_costs_is_known(node):
    for _ in range(5):
        get(node, "/metrics")
    with opened(node) as page:
        until(page, b"event: news")
    assert node.server.cpu_ns > 0


def test_without_a_dashboard_there_is_none(tmp_path):
    from pipeline.http import HttpServer
    from pipeline.stage import Context

    with HttpServer("127.0.0.1:0", Context("encoder", tmp_path), lambda: True) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/dashboard")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (404, b"there are /metrics, /livez, /readyz\n")
        connection.close()
