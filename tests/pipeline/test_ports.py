"""Whether a port is taken, told without opening it for good."""

from __future__ import annotations

import socket

import pytest

from pipeline.config.addresses import Endpoint, link_endpoint
from pipeline.ports import is_taken


def _ends(address: str) -> Endpoint:
    end = link_endpoint(address)
    assert end is not None
    return end


@pytest.mark.parametrize("host", ["127.0.0.1", "*", "0.0.0.0", "localhost"])
def test_a_port_where_somebody_listens_is_taken(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert is_taken(_ends(f"tcp://{host}:{port}"))
    assert not is_taken(_ends(f"tcp://{host}:{port}"))


def test_a_connection_that_has_just_ended_is_in_nobodys_way():
    with socket.create_server(("127.0.0.1", 0)) as server:
        end = _ends(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        accepted.close()  # the server's side waits for the last packets of the network
        client.close()
    assert not is_taken(end)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:*", "ipc:///tmp/x", "tcp://192.0.2.1:5555"])
def test_what_cannot_be_told_is_left_to_whoever_opens_it(address):
    assert not is_taken(_ends(address))
