"""`maxage doctor`: whether the server suits the cache, and what to change."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from maxage import CacheSettings
from maxage.fastapi.admin.state import read_state
from tests.cli.conftest import Command, fill
from tests.support.documents import blocks
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.redis_topology import start_cluster


def checks(command: Command, url: str) -> tuple[int, dict[str, dict[str, str]]]:
    ran = command("doctor", "--redis-url", url, "--json")
    return ran.code, {check["name"]: check for check in json.loads(ran.out)}


@contextmanager
def configured(redis: RedisServer, **options: str) -> Iterator[None]:
    before = {name: redis.call("CONFIG", "GET", name)[1] for name in options}
    for name, value in options.items():
        redis.call("CONFIG", "SET", name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            redis.call("CONFIG", "SET", name, value)


def test_a_server_that_suits_passes_every_check(command: Command, redis: RedisServer) -> None:
    """Exit code 0, one line for each check, and no key is left behind."""
    with configured(redis, maxmemory="100mb", **{"maxmemory-policy": "allkeys-lru"}):
        ran = command("doctor", "--redis-url", redis.url)
    assert ran.code == 0, ran.out
    assert [line.split()[0] for line in ran.out.splitlines()] == ["ok"] * 10
    assert [line.split()[1] for line in ran.out.splitlines()] == [
        "connection", "version", "role", "memory", "eviction", "latency", "tracking", "clock",
        "permissions", "workers",
    ]  # fmt: skip
    assert redis.call("KEYS", "*doctor*") == []


def test_hints_are_no_failure(command: Command, redis: RedisServer) -> None:
    """A server without a limit works until the system ends it."""
    code, found = checks(command, redis.url)
    assert code == 0
    assert found["memory"]["state"] == "hint"
    assert found["memory"]["change"].startswith("Set maxmemory: ")


def test_a_full_server_that_evicts_nothing_fails(command: Command, redis: RedisServer) -> None:
    """It would refuse purges."""
    with configured(redis, maxmemory="1mb", **{"maxmemory-policy": "noeviction"}):
        code, found = checks(command, redis.url)
    assert code == 1
    assert found["eviction"]["state"] == "wrong"
    assert "allkeys-lru" in found["eviction"]["change"]
    assert found["memory"]["state"] == "wrong"
    assert found["permissions"]["state"] == "wrong"
    assert found["permissions"]["change"].startswith("Raise maxmemory, or set ")


def test_a_replica_fails(command: Command, redis: RedisServer) -> None:
    """It takes no writes, which no permission would change."""
    with RedisServer.start(args=("--replicaof", redis.host, str(redis.port))) as replica:
        code, found = checks(command, replica.url)
    assert code == 1
    assert found["role"]["found"] == "slave"
    assert found["permissions"]["change"].startswith("Mend the role first: ")


def test_a_server_that_is_full_of_what_its_policy_spares_fails(command: Command) -> None:
    """The policy alone looks right: it never drops what another program keeps for good."""
    with RedisServer.start() as redis:
        redis.call("SET", "for good", b"x" * 2_000_000)
        with configured(redis, maxmemory="1mb", **{"maxmemory-policy": "volatile-lru"}):
            code, found = checks(command, redis.url)
    assert (code, found["eviction"]["state"]) == (1, "ok")
    assert "allkeys-lru" in found["permissions"]["change"]


@pytest.mark.parametrize("answer", ["MISCONF", "NOREPLICAS Not enough good replicas to write."])
def test_a_server_that_takes_no_writes_is_no_matter_of_rights(
    answer: str, command: Command, fault_proxy: FaultProxy
) -> None:
    """Its disk is full, or replicas are gone: the user was said to lack eight commands."""
    fault_proxy.error(answer, commands={"SET", "HSET", "EXPIRE", "RPUSH", "UNLINK"})
    code, found = checks(command, fault_proxy.url)
    assert code == 1
    assert answer.split(maxsplit=1)[0] in found["permissions"]["found"]
    assert found["permissions"]["change"].startswith("Mend on the server what it says")


@pytest.mark.parametrize(
    ("answer", "mend"),
    [
        ("LOADING", "Wait: "),
        ("NOPERM", "Give the user of REDIS_URL "),
        ("ERR max number of clients reached", "Raise maxclients "),
        ("MASTERDOWN", "Mend on the server what it says"),
    ],
)
def test_a_server_that_runs_and_refuses_need_not_be_started(
    answer: str, mend: str, fault_proxy: FaultProxy
) -> None:
    """The page showed the reason, and beside it that the server has to be started."""
    fault_proxy.error(answer, commands={"HGETALL"})
    settings = CacheSettings(redis_url=fault_proxy.url, cache_insight=True)
    (trouble,) = read_state(settings).troubles
    assert mend in trouble


def test_a_server_too_far_for_two_round_trips_fails(
    command: Command, fault_proxy: FaultProxy
) -> None:
    """A miss takes as many within the budget, so that there would be no hits."""
    fault_proxy.delay(0.03)
    code, found = checks(command, fault_proxy.url)
    assert code == 1
    assert found["latency"]["state"] == "wrong"
    assert "CACHE_READ_BUDGET (0.05 s): a miss takes two" in found["latency"]["change"]


def test_a_wrong_password_is_told_as_such(command: Command, redis: RedisServer) -> None:
    """A server that was to be started, or hangs, would be looked for in vain."""
    url = redis.url.replace("redis://", "redis://:wrong@")
    code, found = checks(command, url)
    assert code == 1
    assert found["connection"]["change"].startswith("Correct the user name and the password")


def rights() -> list[str]:
    """What docs/security.md allows the user of the cache."""
    (line,) = [
        one.text for one in blocks("docs/security.md", "text") if one.text.startswith("user ")
    ]
    return [right for right in line.split()[2:] if not right.startswith(("~", ">"))]


@contextmanager
def user(redis: RedisServer, *more: str) -> Iterator[str]:
    """The URL of a user with these rights and some more, or fewer."""
    redis.call("ACL", "SETUSER", "cache", "reset", *rights(), ">pw", "~*", *more)
    yield redis.url.replace("redis://", "redis://cache:pw@")
    redis.call("ACL", "DELUSER", "cache")


def test_the_user_of_the_security_page_passes(command: Command, redis: RedisServer) -> None:
    """And one who lacks a command is told which."""
    with user(redis) as url:
        code, found = checks(command, url)
        assert code == 0, found
    with user(redis, "-setrange", "-client|tracking", "-info") as url:
        code, found = checks(command, url)
    assert code == 1
    assert found["permissions"]["change"].startswith("Allow +setrange on ~")
    assert found["tracking"]["change"].startswith("Allow +client|tracking: ")
    assert found["server"]["change"].startswith("Allow +info: ")
    assert "pw" not in json.dumps(found)


def test_each_right_is_tried(command: Command, redis: RedisServer) -> None:
    """SELECT and PING are not of this list: without them nothing can be asked."""
    allowed = {right[1:] for right in rights() if right.startswith("+")}
    lacking = sorted(allowed - {"client|tracking", "info", "ping", "select", "time"})
    with user(redis, *(f"-{right}" for right in lacking)) as url:
        _, found = checks(command, url)
    told = found["permissions"]["change"].partition(" on ~")[0].split()[1:]
    assert sorted(told) == [f"+{right}" for right in lacking]


def test_leases_are_counted(command: Command, redis: RedisServer) -> None:
    """Those of this process, which has just signed off, are no leases."""
    fill(redis.url, "/items")
    _, found = checks(command, redis.url)
    assert found["workers"]["found"].startswith("0 that write hold a lease, 0 are suspected")


def test_a_server_that_is_away_fails_in_one_line(command: Command, redis: RedisServer) -> None:
    """Also one that takes connections and answers nothing."""
    redis.pause()
    hanging = command("doctor", "--redis-url", redis.url)
    redis.resume()
    refused = command("doctor", "--redis-url", "redis://me:hidden@127.0.0.1:1")
    for ran in (hanging, refused):
        assert ran.code == 1
        assert ran.err == ""
        assert ran.out.startswith("wrong  connection ")
    assert "it hangs: restart it" in hanging.out
    assert "Start the server, or correct REDIS_URL" in refused.out
    assert "hidden" not in refused.out


@pytest.mark.parametrize("arguments", [["--redis-url", "memory://"], []])
def test_without_a_server_it_cannot_run(arguments: list[str], command: Command) -> None:
    """Exit code 2."""
    ran = command("doctor", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("maxage: no server is named")


def test_every_master_of_a_cluster_is_checked(command: Command) -> None:
    """Permissions on keys of all."""
    with start_cluster() as cluster:
        code, _ = checks(command, cluster.url)
        ran = command("doctor", "--redis-url", cluster.url)
    assert code == 0, ran.out
    assert ran.out.count("  latency ") == 3
    assert "3 servers answer" in ran.out
