"""`maxage purge`."""

import json

import pytest

from maxage import CacheSettings
from maxage.explain.stored import shelf_of, stored_at
from tests.cli.conftest import Command, fill
from tests.support.redis_server import RedisServer


def valid(redis: RedisServer, path: str) -> list[bool]:
    settings = CacheSettings(redis_url=redis.url)
    return [entry.valid for entry in stored_at(shelf_of(settings), settings, path)]


@pytest.mark.parametrize("name", ["/items/5", "http://shop.example/items/5", "/items/*", "/"])
def test_a_path_is_purged_with_all_beneath(name: str, command: Command, redis: RedisServer) -> None:
    """And nothing else."""
    fill(redis.url, "/items", "/items/5", "/items/6")
    ran = command("purge", name, "--redis-url", redis.url)
    assert (ran.code, ran.out, ran.err) == (0, f"Purged {name}.\n", "")
    assert valid(redis, "/items/5") == [False]
    assert valid(redis, "/items/6") == [name in ("/items/5", "http://shop.example/items/5")]


def test_a_tag_is_purged(command: Command, redis: RedisServer) -> None:
    """A name that does not begin with a slash."""
    fill(redis.url, "/items", "/items/5")
    ran = command("purge", "all", "--redis-url", redis.url, "--json")
    assert json.loads(ran.out) == {"purged": "all", "soft": False, "confirmed": True}
    assert valid(redis, "/items") == [False]
    assert valid(redis, "/items/5") == [True]


def test_a_dry_run_counts_and_purges_nothing(command: Command, redis: RedisServer) -> None:
    """By the groups that the stored responses carry."""
    fill(redis.url, "/items", "/items/5", "/items/6")
    ran = command("purge", "/items", "--dry-run", "--redis-url", redis.url)
    assert ran.out.splitlines()[0] == "Would purge /items: 3 stored responses."
    assert "http://shop.example/items/5:" in ran.out
    of_tag = json.loads(
        command("purge", "all", "--dry-run", "--json", "--redis-url", redis.url).out
    )
    assert (of_tag["groups"], of_tag["responses"]) == (["g:all"], 1)
    everything = command("purge", "--everything", "--dry-run", "--redis-url", redis.url)
    assert "3 stored responses" in everything.out
    assert valid(redis, "/items") == [True]


def test_everything_asks_first(command: Command, redis: RedisServer) -> None:
    """Where no one can be asked, it wants --yes."""
    fill(redis.url, "/items")
    ran = command("purge", "--everything", "--redis-url", redis.url)
    assert ran.code == 2
    assert "stdin is no terminal: give --yes." in ran.err
    assert valid(redis, "/items") == [True]
    namespace = CacheSettings().cache_namespace
    ran = command("purge", "--everything", "--yes", "--redis-url", redis.url)
    assert (ran.code, ran.out) == (0, f"Purged everything in namespace {namespace}.\n")
    assert valid(redis, "/items") == [False]


def test_a_soft_purge_marks(command: Command, redis: RedisServer) -> None:
    """The response may answer once more."""
    fill(redis.url, "/items")
    ran = command("purge", "/items", "--soft", "--redis-url", redis.url)
    assert ran.out == "Purged /items softly.\n"
    assert valid(redis, "/items") == [False]


def test_a_purge_that_the_server_refuses_is_told(command: Command, redis: RedisServer) -> None:
    """Exit code 1, for scripts."""
    redis.call("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-set", "-setrange")
    url = redis.url.replace("redis://", "redis://reader:pw@")
    try:
        ran = command("purge", "/items", "--redis-url", url)
    finally:
        redis.call("ACL", "DELUSER", "reader")
    assert ran.code == 1
    assert ran.err.startswith("maxage: the server did not confirm the purge: ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name paths or tags to purge, or give --everything."),
        (["", "--redis-url", "redis://x"], "name paths or tags to purge"),
        (["/a", "", "--redis-url", "redis://x"], "an empty name stands for nothing"),
        (["/a", "--everything"], "give either names or --everything."),
        (["/a"], "no server is named"),
        (["/a", "--redis-url", "redis://127.0.0.1:1"], "the server does not answer as it should"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], complaint: str, command: Command
) -> None:
    """And exit code 2."""
    ran = command("purge", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"maxage: {complaint}")
    assert ran.err.count("\n") == 1
