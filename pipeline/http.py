"""What a node shows over HTTP: /metrics for Prometheus, /livez and /readyz for whoever restarts it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import choose_encoder

from pipeline.config.addresses import http_endpoint
from pipeline.errors import ConfigError, LinkError
from pipeline.stage import Context

__all__ = ["HttpServer"]

MAX_REQUESTS = 8
REQUEST_TIMEOUT_S = 5.0
WARN_EVERY_NS = 60_000_000_000
TEXT = "text/plain; charset=utf-8"


class HttpServer:
    """The endpoint of one node, from `with` to its end."""

    def __init__(self, address: str, context: Context, ready: Callable[[], bool], *, insecure: bool = False) -> None:
        """`address` is HOST:PORT. Raises ConfigError for one that others can reach, unless `insecure`, LinkError if it
        cannot be opened.
        """
        endpoint = http_endpoint(address)
        if endpoint is None:
            raise ConfigError(f"http: {address} is not allowed, expected HOST:PORT such as 127.0.0.1:9101")
        if not endpoint.loopback and not insecure:
            raise ConfigError(
                f"http: {address} is reached from other machines; use 127.0.0.1:PORT, "
                "or give the node `insecure: true` to allow it"
            )
        exposed = "" if endpoint.loopback else address
        host = endpoint.host.strip("[]").replace("*", "")
        try:
            self._server = _server_class(host)((host, endpoint.port), context, ready, exposed)
        except OSError as error:
            raise LinkError(
                f"http: node '{context.node}' cannot listen on {address}: {error.strerror}; "
                "choose another port with the key `http`"
            ) from error
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> HttpServer:
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], context: Context, ready: Callable[[], bool], exposed: str) -> None:
        self.context, self.ready, self._exposed = context, ready, exposed
        self._slots = threading.BoundedSemaphore(MAX_REQUESTS)
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

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.context.log.debug("http: a request from %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_TIMEOUT_S
    server_version = "sidecast"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, encode(self.server.context.metrics.registry), kind)
            case "/livez":
                self._say(self.server.context.error is None, "alive", "failed")
            case "/readyz":
                self._say(self.server.ready(), "ready", "not ready")
            case _:
                self._answer(404, b"there are /metrics, /livez and /readyz\n", TEXT)

    do_HEAD = do_GET  # noqa: N815 - as above

    def _say(self, good: bool, yes: str, no: str) -> None:
        self._answer(200 if good else 503, f"{yes if good else no}\n".encode(), TEXT)

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        self.server.context.log.debug("http: " + format, *args)


def _server_class(host: str) -> type[_Server]:
    if ":" not in host:
        return _Server

    import socket

    class Ipv6(_Server):
        address_family = socket.AF_INET6

    return Ipv6
