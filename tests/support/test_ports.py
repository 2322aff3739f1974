"""Free TCP ports."""

import socket

from tests.support.ports import free_port


def test_ports_are_never_given_twice() -> None:
    """A hundred ports are a hundred different free ones."""
    ports = [free_port(with_bus=True) for _ in range(100)]
    assert len(set(ports)) == 100
    for port in ports[:5]:
        socket.create_server(("127.0.0.1", port)).close()
