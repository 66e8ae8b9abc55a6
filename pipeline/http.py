"""What a node shows over HTTP: /metrics for Prometheus, /livez and /readyz for whoever restarts it, /dashboard."""

from __future__ import annotations

import errno
import ipaddress
import os
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import choose_encoder

from pipeline.config.addresses import http_endpoint
from pipeline.dashboard.dashboard import HEADERS, ROOT, Dashboard
from pipeline.errors import ConfigError, LinkError
from pipeline.ports import is_taken
from pipeline.stage import Context

__all__ = ["HttpServer", "require_free_port"]

MAX_REQUESTS = 8
MAX_REQUESTS_OF_PAGES = 64
"""With a dashboard: a browser opens six connections for a page."""
REQUEST_TIMEOUT_S = 5.0
WARN_EVERY_NS = 60_000_000_000
TEXT = "text/plain; charset=utf-8"
NO_HEADERS: Mapping[str, str] = {}


class HttpServer:
    """The endpoint of one node, from `with` to its end."""

    def __init__(
        self,
        address: str,
        context: Context,
        ready: Callable[[], bool],
        *,
        insecure: bool = False,
        dashboard: Dashboard | None = None,
    ) -> None:
        """`address` is HOST:PORT. Raises ConfigError for one that others can reach, unless `insecure`, LinkError if it
        cannot be opened.
        """
        self._dashboard = dashboard
        endpoint = http_endpoint(address)
        if endpoint is None:
            raise ConfigError(f"http: {address} is not allowed, expected HOST:PORT such as 127.0.0.1:9101")
        if not endpoint.loopback and not insecure:
            raise ConfigError(
                f"http: {address} is reached from other machines; use 127.0.0.1:PORT, "
                "or allow it with `insecure: true` (of a node) or --insecure (of a command)"
            )
        exposed = "" if endpoint.loopback else address
        host = endpoint.host.strip("[]").replace("*", "")
        try:
            self._server = _server_class(host)((host, endpoint.port), context, ready, exposed, dashboard)
        except OSError as error:
            raise _cannot_listen(context.node, address, str(error.strerror)) from error
        self.port = int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where the dashboard is, for someone on this machine."""
        host = str(self._server.server_address[0])
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        return f"http://{shown}:{self.port}{ROOT}"

    @property
    def cpu_ns(self) -> int:
        """Processor time that answering and the dashboard have cost so far."""
        return self._server.cpu_ns + (self._dashboard.cpu_ns if self._dashboard else 0)

    def __enter__(self) -> HttpServer:
        if self._dashboard:
            self._dashboard.start()
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._dashboard:
            self._dashboard.stop()
        self._server.shutdown()
        self._server.server_close()
        share = 100 * self.cpu_ns / time.process_time_ns()
        self._server.context.log.debug("http: %.2f %% of this node's processor time", share)


def require_free_port(node: str, address: str) -> None:
    """Raise LinkError if another process listens at HOST:PORT, for whoever starts several nodes."""
    endpoint = http_endpoint(address)
    if endpoint and is_taken(endpoint):
        raise _cannot_listen(node, address, os.strerror(errno.EADDRINUSE))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        context: Context,
        ready: Callable[[], bool],
        exposed: str,
        dashboard: Dashboard | None,
    ) -> None:
        self.context, self.ready, self._exposed, self.dashboard = context, ready, exposed, dashboard
        self._slots = threading.BoundedSemaphore(MAX_REQUESTS_OF_PAGES if dashboard else MAX_REQUESTS)
        self._adopted: set[int] = set()
        self._cpu_lock = threading.Lock()
        self.cpu_ns = 0
        self._warn_due_ns = 0
        super().__init__(address, _Handler)

    def service_actions(self) -> None:
        """Called about twice a second."""
        now_ns = self.context.clock.monotonic_ns()
        if self._exposed and now_ns >= self._warn_due_ns:
            self._warn_due_ns = now_ns + WARN_EVERY_NS
            self.context.log.warning("http: %s is open to other machines (insecure: true)", self._exposed)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()
            with self._cpu_lock:
                self.cpu_ns += time.thread_time_ns()  # the thread has lived for this request only

    def adopted(self, request: Any) -> None:
        """This connection is somebody else's now."""
        self._adopted.add(id(request))

    def shutdown_request(self, request: Any) -> None:
        """Hang up, unless the connection was adopted."""
        if id(request) in self._adopted:
            self._adopted.discard(id(request))
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.context.log.debug("http: a request from %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_TIMEOUT_S
    server_version = "sidecast"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        dashboard = self.server.dashboard
        match path:
            case "/metrics":
                encode, kind = choose_encoder("")  # text takes half the time of OpenMetrics and says the same here
                self._answer(200, encode(self.server.context.metrics.registry), kind)
            case "/livez":
                self._say(self.server.context.error is None, "alive", "failed")
            case "/readyz":
                self._say(self.server.ready(), "ready", "not ready")
            case _ if dashboard and (path == "/" or path.startswith(ROOT)):
                self._show(dashboard, path)
            case _:
                also = f", {ROOT}" if dashboard else ""
                self._answer(404, f"there are /metrics, /livez, /readyz{also}\n".encode(), TEXT)

    def _show(self, dashboard: Dashboard, path: str) -> None:
        """The page and what belongs to it."""
        if not self._is_own_name():
            self._answer(403, b"the dashboard of this machine is reached as 127.0.0.1 or localhost only\n", TEXT)
        elif path in ("/", f"{ROOT}/"):
            self._answer(301, b"", TEXT, {"Location": ROOT.removeprefix("/") if path == "/" else f"..{ROOT}"})
        elif path == f"{ROOT}/events":
            self._stream(dashboard)
        else:
            answer = dashboard.answer(path.removeprefix(ROOT))
            if answer is None:
                self._answer(404, b"there is no such thing on the dashboard (any more)\n", TEXT)
            else:
                self._answer(answer.status, answer.body, answer.kind, {**HEADERS, **answer.headers})

    def _is_own_name(self) -> bool:
        """A web site whose name is made to mean this machine must not see pictures that only this machine may see."""
        if self.server.server_address[0] not in ("127.0.0.1", "::1"):
            return True
        host = self.headers.get("Host", "localhost").rpartition("]")
        name = host[0].strip("[]") or host[2].partition(":")[0]
        try:
            return name == "localhost" or ipaddress.ip_address(name) is not None
        except ValueError:
            return False

    def _stream(self, dashboard: Dashboard) -> None:
        """Events for as long as the page is open; the connection goes to the thread that sends them."""
        self.send_response(200)
        # A proxy in between must hand events on as they come.
        for name, value in {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no", **HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        refusal = dashboard.adopt(self.connection)
        if refusal is None:
            self.server.adopted(self.request)
        else:
            self.wfile.write(refusal)

    do_HEAD = do_GET  # noqa: N815 - as above

    def _say(self, good: bool, yes: str, no: str) -> None:
        self._answer(200 if good else 503, f"{yes if good else no}\n".encode(), TEXT)

    def _answer(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        self.server.context.log.debug("http: " + format, *args)


def _cannot_listen(node: str, address: str, why: str) -> LinkError:
    return LinkError(
        f"http: node '{node}' cannot listen on {address}: {why}; "
        "choose another port with `http` (of a node) or --http (of a command)"
    )


def _server_class(host: str) -> type[_Server]:
    if ":" not in host:
        return _Server

    import socket

    class Ipv6(_Server):
        address_family = socket.AF_INET6

    return Ipv6
