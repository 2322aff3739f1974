"""Facts about the servers of a store, as they report them."""

from dataclasses import dataclass
from typing import Any, Final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.observer import Observer
from maxage.redis_store.servers.node import Node, describe

_SECTIONS: Final = ("server", "memory", "stats", "replication", "cluster")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """One server; bytes."""

    product: str
    """`redis` or `valkey`."""
    version: str
    role: str
    keys: int
    """All keys of its database, those of other programs included."""
    used_memory: int
    max_memory: int
    """0: there is no limit."""
    policy: str
    """Its `maxmemory-policy`."""
    evicted_keys: int
    replicas: int


def server_facts(observer: Observer) -> list[ServerFacts]:
    """Return the facts about all servers.

    Raises:
        StoreUnavailableError: one of them did not answer, or hides INFO.
    """
    return [_facts(observer, node) for node in observer.nodes()]


def info_of(observer: Observer, node: Node) -> dict[str, str]:
    """Return the fields of a server's INFO.

    Raises:
        StoreUnavailableError: it did not answer, or hides INFO.
    """
    fields: dict[str, str] = {}
    for answer in observer.ask(node, [("INFO", section) for section in _SECTIONS]):
        if isinstance(answer, Exception):
            raise StoreUnavailableError(describe(answer)) from answer
        lines = bytes(answer).decode("utf-8", "replace").splitlines()
        pairs = (line.partition(":") for line in lines)
        fields |= {name: value for name, colon, value in pairs if colon}
    return fields


def _facts(observer: Observer, node: Node) -> ServerFacts:
    info = info_of(observer, node)
    (keys,) = observer.ask(node, [("DBSIZE",)])
    return facts_in(info, keys)


def facts_in(info: dict[str, str], keys: Any) -> ServerFacts:
    """Return the facts in the fields of INFO and the answer to DBSIZE."""
    is_valkey = "valkey_version" in info
    return ServerFacts(
        product="valkey" if is_valkey else "redis",
        version=info["valkey_version" if is_valkey else "redis_version"],
        role=info.get("role", ""),
        keys=keys if isinstance(keys, int) else 0,
        used_memory=_number(info, "used_memory"),
        max_memory=_number(info, "maxmemory"),
        policy=info.get("maxmemory_policy", ""),
        evicted_keys=_number(info, "evicted_keys"),
        replicas=_number(info, "connected_slaves"),
    )


def _number(info: dict[str, str], name: str) -> int:
    value = info.get(name, "")
    return int(value) if value.isdecimal() else 0
