"""Addresses of links (`tcp://127.0.0.1:5555`) and of HTTP endpoints (`127.0.0.1:9101`): who can reach whom."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

__all__ = ["Endpoint", "http_endpoint", "link_endpoint", "may_reach", "same_port", "without_passwords"]

WILDCARDS = ("*", "0.0.0.0", "::", "[::]")
TCP = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5}|\*)")
_PASSWORD = re.compile(r"""(?<=://)([^/\s:@"']*):[^/\s@"']*@""")


@dataclass(frozen=True)
class Endpoint:
    """One end of a connection."""

    scheme: str
    """`tcp`, `ipc` or `inproc`."""
    host: str
    """The host, or the whole path where there is none."""
    port: int
    """0 where any free port is taken."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.scheme != "tcp" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


def http_endpoint(text: str) -> Endpoint | None:
    """`HOST:PORT` taken apart, or None."""
    match = TCP.fullmatch(text)
    if not match or (match["port"] != "*" and int(match["port"]) > 65535):
        return None
    return Endpoint("tcp", match["host"], 0 if match["port"] == "*" else int(match["port"]))


def link_endpoint(text: str) -> Endpoint | None:
    """A ZeroMQ address taken apart, or None."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme in ("ipc", "inproc") and rest:
        return Endpoint(scheme, rest, 0)
    return http_endpoint(rest) if separator and scheme == "tcp" else None


def may_reach(connect: Endpoint, bind: Endpoint) -> bool:
    """False only where it is plain that `connect` never ends at `bind`.

    A host name or another machine's address may be forwarded to anything, so only addresses of one machine are judged.
    """
    if connect.scheme != bind.scheme:
        return False
    if connect.scheme != "tcp":
        return connect.host == bind.host
    return not connect.loopback or bind.port in (0, connect.port)


def same_port(one: Endpoint, other: Endpoint) -> bool:
    """Whether two HTTP endpoints cannot both be opened on one machine."""
    if one.port == 0 or one.port != other.port:
        return False
    return one.host == other.host or any(end.host in WILDCARDS for end in (one, other))


def without_passwords(text: str) -> str:
    """The text for logs, reports and recordings: of `rtsp://user:password@host` the password is not shown."""
    return _PASSWORD.sub(r"\1:***@", text)
