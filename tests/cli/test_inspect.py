"""`maxage inspect`: what is stored for a URL."""

import json
import sys
from pathlib import Path

import pytest

from maxage import CacheSettings, purge
from tests.cli.conftest import Command, fill
from tests.support.redis_server import RedisServer
from tests.support.redis_topology import start_cluster


def test_a_response_is_shown_with_headers_tokens_and_bytes(
    command: Command, redis: RedisServer
) -> None:
    """Of all hosts where a path is given, of one host where a URL is."""
    fill(redis.url, "/items?page=1", "/items?page=2", "/items/5")
    ran = command("inspect", "/items", "--redis-url", redis.url)
    assert ran.code == 0, ran.err
    assert "http://shop.example/items?page=1\n" in ran.out
    assert "http://shop.example/items?page=2\n" in ran.out
    assert "  header   content-type: application/json\n" in ran.out
    assert "  token    c:/items  " in ran.out
    assert ran.out.rstrip().splitlines()[-1].startswith("2 stored responses, ")
    asked = ("inspect", "http://shop.example/items?page=2", "--redis-url", redis.url, "--json")
    (entry,) = json.loads(command(*asked).out)
    assert entry["url"] == "http://shop.example/items?page=2"
    assert entry["valid"] is True
    assert entry["body_bytes"] == len("[1,2]")
    assert entry["stored_bytes"] > entry["body_bytes"]
    assert entry["ends_in"] > 0


def test_variants_and_purged_responses_are_told_apart(command: Command, redis: RedisServer) -> None:
    """Each variant with the header that selects it, each token with the current one."""
    fill(redis.url, "/items/5", language="en")
    fill(redis.url, "/items/5", language="de")
    purge("/items/5", settings=CacheSettings(redis_url=redis.url))
    ran = command("inspect", "/items/5", "--redis-url", redis.url)
    assert "  variant  accept-language: de\n" in ran.out
    assert "  variant  accept-language: en\n" in ran.out
    assert "  token    p:/items/5  " in ran.out
    assert "purged: now " in ran.out


def test_what_another_secret_signed_is_said_to_be_unreadable(
    command: Command, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And readable with the secret."""
    fill(redis.url, "/items", cache_secret="a secret of the application")
    ran = command("inspect", "/items", "--redis-url", redis.url)
    assert "It cannot be read: it is damaged, or signed with another CACHE_SECRET." in ran.out
    monkeypatch.setenv("CACHE_SECRET", "a secret of the application")
    assert "status   200" in command("inspect", "/items", "--redis-url", redis.url).out


def test_long_urls_are_found_by_what_their_key_shows(command: Command, redis: RedisServer) -> None:
    """And special characters of glob patterns stand for themselves."""
    long = "/items?page=" + "x" * 300
    fill(redis.url, long, "/items?a=[1]*")
    assert command("inspect", long, "--redis-url", redis.url).code == 0
    assert command("inspect", "/items?a=[1]*", "--redis-url", redis.url).code == 0
    for missing in (
        "/items?a=1",
        "/items?page=y",
        "/item",
        "/items/",
        "https://shop.example/items",
    ):
        ran = command("inspect", missing, "--redis-url", redis.url)
        assert (ran.code, ran.out) == (1, f"Nothing is stored for {missing}.\n")


def test_a_url_is_looked_for_as_clients_send_it(command: Command, redis: RedisServer) -> None:
    """Percent-encoded; bytes that are no UTF-8 too, which reach a command as surrogates."""
    fill(redis.url, "/items?page=%C3%A9", "/items?page=%FF")
    for written in ("é", "%C3%A9", "\udcff"):
        ran = command("inspect", f"/items?page={written}", "--redis-url", redis.url)
        assert ran.out.rstrip().splitlines()[-1].startswith("1 stored response, "), ran
    assert command("inspect", "http://\udcff/items", "--redis-url", redis.url).code == 1


def test_only_so_many_are_shown(command: Command, redis: RedisServer) -> None:
    """And it says that there are more."""
    fill(redis.url, *(f"/items?page={n}" for n in range(4)))
    ran = command("inspect", "/items", "--limit", "3", "--redis-url", redis.url)
    assert "3 stored responses" in ran.out
    assert "There are more: raise --limit." in ran.out


def test_the_keys_of_all_masters_of_a_cluster_are_looked_through(
    command: Command, redis: RedisServer
) -> None:
    """Responses, tokens, dry runs and purges, wherever they lie."""
    with start_cluster() as cluster:
        pages = [f"/items?page={number}" for number in range(9)]
        fill(cluster.url, *pages)
        ran = command("inspect", "/items", "--redis-url", cluster.url, "--json")
        assert len(json.loads(ran.out)) == 9
        assert all(entry["valid"] for entry in json.loads(ran.out))
        dry = command("purge", "/items", "--dry-run", "--redis-url", cluster.url)
        assert "9 stored responses" in dry.out
        assert command("purge", "/items", "--redis-url", cluster.url).code == 0
        ran = command("inspect", "/items", "--redis-url", cluster.url, "--json")
        assert not any(entry["valid"] for entry in json.loads(ran.out))
        assert command("stats", "--redis-url", cluster.url).out.count("(master)") == 3


def test_the_settings_of_an_application_give_server_and_password(
    command: Command, redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a password that a function of the application gives."""
    fill(redis.url, "/items")
    redis.call("ACL", "SETUSER", "app", "on", ">from-a-function", "~*", "+@all")
    url = redis.url.replace("redis://", "redis://app@")
    settings = f"CacheSettings(redis_url={url!r}, redis_credentials=lambda: 'from-a-function')"
    source = "from fastapi import FastAPI\nfrom maxage import CacheMiddleware, CacheSettings\n"
    source += (
        f"configured = FastAPI()\nconfigured.add_middleware(CacheMiddleware, settings={settings})"
    )
    (tmp_path / "shop_with_settings.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        for asked in (("inspect", "/items"), ("purge", "/items"), ("doctor",)):
            ran = command(*asked, "--app", "shop_with_settings:configured")
            assert ran.code == 0, ran
        ran = command("stats", "--app", "shop_with_settings:configured")
        assert "keys" in ran.out
    finally:
        redis.call("ACL", "DELUSER", "app")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["/items"], "no server is named, and an embedded store is seen by its own process alone"),
        (["/items", "--redis-url", "memory://"], "no server is named"),
        (["/items", "--redis-url", "http://a"], "REDIS_URL got 'http://a'; it takes redis://"),
        (["items", "--redis-url", "redis://x"], "'items' is no URL; it takes a path"),
        (["http://[::1/x", "--redis-url", "redis://x"], "'http://[::1/x' is no URL; it takes"),
        (["http://a:b/x", "--redis-url", "redis://x"], "'http://a:b/x' is no URL; it takes"),
        (["/a", "--redis-url", "redis://127.0.0.1:1"], "the server does not answer as it should: "),
        (["/a", "--namespace", "a b", "--redis-url", "redis://x"], "CACHE_NAMESPACE got 'a b'; "),
        (["/a", "--limit", "0"], "Invalid value for '--limit'"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], complaint: str, command: Command
) -> None:
    """And exit code 2."""
    ran = command("inspect", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"maxage: {complaint}")
    assert ran.err.count("\n") == 1


def test_the_password_of_a_server_that_is_away_is_not_shown(command: Command) -> None:
    """Neither in a sentence nor anywhere else."""
    ran = command("inspect", "/a", "--redis-url", "redis://me:hidden@127.0.0.1:1/0")
    assert ran.code == 2
    assert "hidden" not in ran.err
