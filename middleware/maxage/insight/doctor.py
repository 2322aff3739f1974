"""Doctor: whether a server suits the cache, and how to mend it if not."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from secrets import token_hex
from statistics import median
from typing import Any, Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from maxage.errors import StoreUnavailableError
from maxage.insight.publisher import server_seconds
from maxage.insight.server_facts import ServerFacts, facts_in, info_of
from maxage.redis_store.leases.lease import Standing
from maxage.redis_store.leases.registry import fields_of, registry_key
from maxage.redis_store.observer import Observer
from maxage.redis_store.servers.commands import Command
from maxage.redis_store.servers.node import Node
from maxage.settings import CacheSettings
from maxage.store.tokens import token_prefix

_OLDEST: Final = {"redis": (6, 2), "valkey": (7, 2)}
_ROUND_TRIPS: Final = 20
_CLOCK_SECONDS: Final = 2.0
"""By how much the clocks of this machine and of a server may differ."""
_FULL: Final = 0.95
"""Share of its memory from which on a server that evicts nothing is about to refuse writes."""
_TRIED_MILLISECONDS: Final = 5000
"""Lifetime of the keys by which permissions are tried."""
_MENDS: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...]] = (
    (
        AuthenticationError,
        "Correct the user name and the password in REDIS_URL, or those of REDIS_CREDENTIALS.",
    ),
    (
        (TimeoutError, RedisTimeoutError),
        (
            "If the process of the server runs, it hangs: restart it. Else correct host and port "
            "in REDIS_URL, or the network between."
        ),
    ),
    (BusyLoadingError, "Wait: the server loads its data, and answers when it has done so."),
    (
        NoPermissionError,
        "Give the user of REDIS_URL the commands of the cache; maxage doctor names them.",
    ),
    (ResponseError, "Mend on the server what it says: it runs, and refuses."),
)
"""What to do about each kind of error; the first that fits counts."""


class State(StrEnum):
    """The result of one check."""

    OK = "ok"
    HINT = "hint"
    """It works; the change would make it better."""
    WRONG = "wrong"
    """It has to be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of one server, or of all together."""

    name: str
    state: State
    found: str
    change: str = ""
    """The mend and its reason; empty if nothing is wrong."""


def diagnose(settings: CacheSettings, observer: Observer) -> Iterator[Check]:
    """Yield the checks of all servers that the settings name, as they are made."""
    try:
        nodes = observer.ping()
    except StoreUnavailableError as error:
        change = mend_of(error)
        yield Check(name="connection", state=State.WRONG, found=str(error), change=change)
        return
    count = f"{len(nodes)} servers answer" if len(nodes) > 1 else "the server answers"
    yield Check(name="connection", state=State.OK, found=f"{settings.safe_redis_url}: {count}")
    for node in nodes:
        yield from _of_server(settings, observer, node)
    yield permissions(settings, observer)
    yield _workers(settings, observer)


def mend_of(error: StoreUnavailableError) -> str:
    """Return what to do about a server that could not be asked."""
    cause = error.__cause__
    for kinds, mend in _MENDS:
        if isinstance(cause, kinds):
            return mend
    if "max number of clients" in str(cause):
        return "Raise maxclients of the server, or see by CLIENT LIST who holds its connections."
    return "Start the server, or correct REDIS_URL: host, port, TLS."


def checks_of_facts(facts: ServerFacts) -> tuple[Check, ...]:
    """Return the checks that need no more than what a server says of itself."""
    return _version(facts), _role(facts), _memory(facts), _policy(facts)


def _of_server(settings: CacheSettings, observer: Observer, node: Node) -> Iterator[Check]:
    try:
        info = info_of(observer, node)
    except StoreUnavailableError as error:
        change = "Allow +info: without it the cache is emptied whenever a connection was lost."
        yield Check(name="server", state=State.WRONG, found=str(error), change=change)
    else:
        yield from checks_of_facts(facts_in(info, 0))
    yield latency(settings, observer, node, _ROUND_TRIPS)
    yield _tracking(settings, observer, node)
    yield _clock(observer, node)


def _version(facts: ServerFacts) -> Check:
    found = f"{facts.product} {facts.version}"
    parts = tuple(int(part) for part in facts.version.split(".")[:2] if part.isdecimal())
    if parts >= _OLDEST[facts.product]:
        return Check(name="version", state=State.OK, found=found)
    change = "Use Redis 6.2 or Valkey 7.2, or a later version."
    return Check(name="version", state=State.WRONG, found=found, change=change)


def _role(facts: ServerFacts) -> Check:
    if facts.role == "master":
        return Check(name="role", state=State.OK, found=f"primary, {facts.replicas} replicas")
    change = "Name the primary in REDIS_URL, or the sentinels: a replica takes no writes."
    return Check(name="role", state=State.WRONG, found=facts.role, change=change)


def _memory(facts: ServerFacts) -> Check:
    used = f"{facts.used_memory / 1e6:.1f} MB"
    if not facts.max_memory:
        change = "Set maxmemory: without it the server grows until the system ends it."
        return Check(name="memory", state=State.HINT, found=f"{used}, no limit", change=change)
    found = f"{used} of {facts.max_memory / 1e6:.1f} MB"
    if facts.policy == "noeviction" and facts.used_memory > _FULL * facts.max_memory:
        change = "Raise maxmemory, or let the server evict: it is full and refuses writes."
        return Check(name="memory", state=State.WRONG, found=found, change=change)
    return Check(name="memory", state=State.OK, found=found)


def _policy(facts: ServerFacts) -> Check:
    found = f"{facts.policy}, {facts.evicted_keys} keys evicted"
    if facts.policy != "noeviction":
        return Check(name="eviction", state=State.OK, found=found)
    change = "Set maxmemory-policy allkeys-lru: a full server that evicts nothing refuses purges."
    state = State.WRONG if facts.max_memory else State.HINT
    return Check(name="eviction", state=state, found=found, change=change)


def latency(settings: CacheSettings, observer: Observer, node: Node, count: int) -> Check:
    """Measure some round trips."""
    trips = observer.round_trips(node, count)
    usual, longest, budget = median(trips), max(trips), settings.cache_read_budget
    found = f"{usual * 1000:.2f} ms, at most {longest * 1000:.2f} ms"
    if 2 * usual > budget:
        change = (
            f"Bring the server nearer, or raise CACHE_READ_BUDGET ({budget:g} s): a miss takes two "
            "round trips within it."
        )
        return Check(name="latency", state=State.WRONG, found=found, change=change)
    return Check(name="latency", state=State.OK, found=found)


def _tracking(settings: CacheSettings, observer: Observer, node: Node) -> Check:
    prefix = token_prefix(settings.cache_namespace)
    command = ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", prefix)
    (answer,) = observer.ask(node, [command])
    # Over RESP2 the server refuses it by this word, once it has checked the permission.
    if not isinstance(answer, Exception) or "RESP3" in str(answer):
        return Check(name="tracking", state=State.OK, found="CLIENT TRACKING is allowed")
    change = "Allow +client|tracking: the near cache (CACHE_NEAR_BYTES) is not used without it."
    state = State.WRONG if settings.cache_near_bytes else State.HINT
    return Check(name="tracking", state=state, found=str(answer), change=change)


def _clock(observer: Observer, node: Node) -> Check:
    (answer,) = observer.ask(node, [("TIME",)])
    if isinstance(answer, Exception):
        change = "Allow +time: leases are renewed by the server's clock."
        return Check(name="clock", state=State.WRONG, found=str(answer), change=change)
    difference = time.time() - server_seconds(answer)
    found = f"{difference:+.2f} s between this machine and the server"
    if abs(difference) <= _CLOCK_SECONDS:
        return Check(name="clock", state=State.OK, found=found)
    change = "Keep the clocks of all machines by NTP: ages of responses are measured by them."
    return Check(name="clock", state=State.HINT, found=found, change=change)


def permissions(settings: CacheSettings, observer: Observer) -> Check:
    """Try each command that the cache uses, on keys of its namespace that end by themselves."""
    name = f"{settings.cache_namespace}:doctor:{token_hex(4)}".encode()
    tried = _tried(name, name + b":h", name + b":l")
    answers: list[Any] = []
    for node, commands in groupby(tried, lambda one: observer.node_for(_key_of(one, name))):
        answers += observer.ask(node, list(commands))
    refused = {
        str(command[0]).lower(): answer
        for command, answer in zip(tried, answers, strict=True)
        if isinstance(answer, Exception)
    }
    if not refused:
        return Check(name="permissions", state=State.OK, found="all commands are allowed")
    found, change = _refusal(refused, settings.cache_namespace)
    return Check(name="permissions", state=State.WRONG, found=found, change=change)


def _refusal(refused: dict[str, Exception], namespace: str) -> tuple[str, str]:
    """Return what the server says, and the mend; no right helps where it takes no writes."""
    for why in refused.values():
        if isinstance(why, OutOfMemoryError):
            change = (
                "Raise maxmemory, or set maxmemory-policy allkeys-lru: it finds nothing to drop."
            )
            return str(why), change
        if isinstance(why, ReadOnlyError):
            return str(why), "Mend the role first: a replica refuses writes."
        if not (isinstance(why, NoPermissionError) or "unknown command" in str(why)):
            return str(why), "Mend on the server what it says: it refuses writes, and so purges."
    rights = " ".join(f"+{word}" for word in refused)
    return str(next(iter(refused.values()))), f"Allow {rights} on ~{namespace}:*."


def _tried(key: bytes, table: bytes, row: bytes) -> Sequence[Command]:
    return (
        ("SET", key, b"tried", "NX", "PX", _TRIED_MILLISECONDS),
        ("GET", key),
        ("MGET", key),
        ("PTTL", key),
        ("SETRANGE", key, 0, b"T"),
        ("EXPIRE", key, _TRIED_MILLISECONDS // 1000),
        ("HSET", table, b"a", b"b"),
        ("EXPIRE", table, _TRIED_MILLISECONDS // 1000),
        ("HGET", table, b"a"),
        ("HGETALL", table),
        ("HDEL", table, b"a"),
        ("RPUSH", row, b"a"),
        ("EXPIRE", row, _TRIED_MILLISECONDS // 1000),
        ("LRANGE", row, 0, 0),
        ("LREM", row, 0, b"a"),
        ("WAIT", 0, 1),
        *(("UNLINK", name) for name in (key, table, row)),
    )


def _key_of(command: Command, otherwise: bytes) -> bytes:
    return command[1] if isinstance(command[1], bytes) else otherwise


def _workers(settings: CacheSettings, observer: Observer) -> Check:
    key = registry_key(settings.cache_namespace)
    clock, answer = observer.ask(observer.node_for(key), [("TIME",), ("HGETALL", key)])
    if isinstance(answer, Exception):
        return Check(name="workers", state=State.HINT, found=str(answer))
    now = server_seconds(clock) * 1000
    _, records = fields_of(answer)
    leased = sum(one.standing is Standing.LEASED and one.due > now for one in records.values())
    suspects = sum(one.standing is Standing.SUSPECT for one in records.values())
    found = (
        f"{leased} that write hold a lease, {suspects} are suspected to have died with purges owed"
    )
    return Check(name="workers", state=State.OK, found=found)
