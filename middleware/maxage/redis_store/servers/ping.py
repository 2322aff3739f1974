"""A health check of the servers that a URL names."""

from typing import Final, final

from maxage.redis_options import RedisCredentials
from maxage.redis_store.servers.topology import topology_for


@final
class _NoOwner:
    """An owner that ignores failures: the servers are asked only once."""

    def rotate(self) -> None:
        """Do nothing."""

    def recover(self) -> None:
        """Do nothing."""


NO_OWNER: Final = _NoOwner()


def ping_server(url: str, timeout: float, credentials: RedisCredentials | None = None) -> bool:
    """Return whether every server answers a PING on a new connection.

    Args:
        url: as in `REDIS_URL`.
        timeout: seconds for each server.
        credentials: returns the password, in place of the URL's.
    """
    topology = topology_for(url, NO_OWNER, credentials)
    try:
        topology.learn(timeout)
        pongs = [node.send([("PING",)], timeout) for node in topology.nodes]
        return all(pong in ([b"PONG"], ["PONG"]) for pong in pongs)
    except Exception:  # noqa: BLE001 - an invalid reply makes redis-py raise any exception
        return False
