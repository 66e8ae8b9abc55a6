"""Whether an address of this machine can be listened on, asked before anything slow is loaded."""

from __future__ import annotations

import errno
import socket

from pipeline.config.addresses import Endpoint

__all__ = ["is_taken"]


def is_taken(endpoint: Endpoint) -> bool:
    """True if another process listens there. What else may be wrong with the address shows when it is opened."""
    if endpoint.scheme != "tcp" or endpoint.port == 0:
        return False
    host = endpoint.host.strip("[]").replace("*", "")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As servers do: a connection that has just ended is in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, endpoint.port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
