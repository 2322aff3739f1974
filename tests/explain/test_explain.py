"""Explain: the outcome that the middleware would give, and its causes; asking changes nothing."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Security
from fastapi.security import APIKeyHeader

from maxage import (
    CacheMiddleware,
    CacheSettings,
    MemoryStore,
    Rule,
    SettingsError,
    apurge,
    cached,
    invalidates,
    invalidates_only,
    uncached,
)
from maxage.explain import Explanation, aexplain, explain
from maxage.explain.advice import advice_for
from maxage.observe.counters import counters_of
from maxage.observe.words import Bypass
from maxage.routing.control import Control
from tests.support.asgi import call
from tests.support.caching import background_done
from tests.support.redis_server import RedisServer

ran: list[str] = []
api_key = APIKeyHeader(name="x-api-key")


async def user(request: Request) -> str:
    if "authorization" not in request.headers:
        raise HTTPException(401)
    return request.headers["authorization"]


def application(**settings: Any) -> FastAPI:
    """An application whose routes are cached for every reason that there is."""
    app = FastAPI(openapi_url=None)

    def endpoint() -> dict[str, int]:
        ran.append("endpoint")
        return {"a": 1}

    @cached(ttl=60, tags=["item:{item_id}"])
    def item(item_id: int, x_lang: str = Header("en")) -> dict[str, int]:
        ran.append("item")
        return {"item": item_id}

    @cached(vary_by=user)
    def mine() -> dict[str, int]:
        return {}

    app.get("/items")(endpoint)
    app.get("/items/{item_id}")(item)
    app.put("/items/{item_id}")(invalidates("dash:{item_id}")(lambda item_id: None))
    app.post("/login")(invalidates_only()(lambda: None))
    app.get("/me", dependencies=[Security(api_key)])(endpoint)
    app.get("/mine", dependencies=[Depends(user)])(mine)
    app.get("/never")(uncached(lambda: None))
    app.get("/health")(endpoint)
    rules = [Rule("/items/**", ttl=9, tags=["all"]), Rule("/ruled", cache=False)]
    app.add_middleware(
        CacheMiddleware, settings=CacheSettings(**settings), rules=rules, store=MemoryStore()
    )
    return app


def sources(told: Explanation) -> dict[str, tuple[str, str]]:
    return {part.name: (part.value, part.source) for part in told.policy}


async def get(app: Any, target: str, **headers: str) -> str:
    answer = await call(app, "GET", target=target.encode(), headers=headers)
    return answer.headers_named("cache-status")[-1].decode()


HOST = {"host": "testserver"}


def cache_layer(app: Any) -> CacheMiddleware:
    """The cache of an application that has answered."""
    layer = app.middleware_stack
    while not isinstance(layer, CacheMiddleware):
        layer = layer.app
    return layer


async def test_a_miss_becomes_a_hit_as_explained() -> None:
    """The explanation before each request is what the request then gets."""
    app, expected = application(), []
    for _ in range(2):
        told = await aexplain(app, "GET /items?limit=5", HOST)
        expected.append(told.outcome)
        status = await get(app, "/items?limit=5")
        assert ("hit" in status) == (told.outcome == "hit"), (status, told)
    assert expected == ["miss", "hit"]
    told = await aexplain(app, "GET /items?limit=5", HOST)
    assert told.stored is not None
    assert told.stored.valid
    assert told.stored.body_bytes == len(b'{"a":1}')
    assert 299 <= told.stored.ttl <= 300
    assert all(state.fits for state in told.groups)
    assert {state.group for state in told.groups} == {"n", "p:/items", "c:/items"}


async def test_a_purge_is_named_with_its_group() -> None:
    """The stored response is shown, with the token that it was stored under."""
    app = application()
    await get(app, "/items")
    await call(app, "PUT", "/items/5")
    told = await aexplain(app, "/items", HOST)
    assert (told.outcome, told.reason) == ("miss", "uri-miss")
    assert told.because == "A response is stored, but was purged since, by c:/items."
    assert told.stored is not None
    assert not told.stored.valid
    (purged,) = [state for state in told.groups if not state.fits]
    assert purged.group == "c:/items"
    assert None not in (purged.stored, purged.current)


async def test_asking_changes_nothing() -> None:
    """No token, no entry, no use of an entry, no counter; and no handler runs."""
    app = application()
    await get(app, "/items")
    layer = cache_layer(app)
    assert layer.cache is not None
    store = layer.cache.store
    assert isinstance(store, MemoryStore)

    def state() -> tuple[Any, ...]:
        assert layer.cache is not None
        return (
            list(store._values),
            list(store._tokens.present().items()),
            repr(counters_of(layer.cache.tally)),
            list(ran),
        )

    before = state()
    for request in ("/items", "/items/5", "/nowhere", "PUT /items/5", "DELETE /items/5"):
        await aexplain(app, request, HOST)
    assert state() == before


@pytest.mark.parametrize(
    ("request_line", "headers", "reason"),
    [
        ("/never", {}, "uncached"),
        ("/ruled", {}, "uncached"),
        ("/items", {"x-original-url": "/a"}, "override"),
        ("/items", {"content-length": "3"}, "body"),
        ("HEAD /items", {}, "head"),
        ("/" + "x" * 9000, {}, "long-url"),
        ("/" + "x/" * 40, {}, "uncached"),
        ("/mine", {}, "vary_by"),
        ("OPTIONS /items", {}, "safe"),
    ],
)
async def test_each_bypass_has_the_word_of_cache_status(
    request_line: str, headers: dict[str, str], reason: str
) -> None:
    """And a sentence, and mostly what to change."""
    app = application()
    told = await aexplain(app, request_line, {**HOST, **headers})
    assert (told.outcome, told.reason) == ("bypass", reason)
    assert told.because.endswith(".")
    method, _, target = request_line.rpartition(" ")
    answer = await call(app, method or "GET", target=target.encode(), headers=headers, raises=False)
    status = answer.headers_named("cache-status")
    if reason != "safe":
        assert told.changes
        assert status[-1].decode() == f"maxage; fwd=bypass; detail={reason}"


@pytest.mark.parametrize("reason", Bypass)
def test_each_reason_of_a_bypass_has_a_meaning_and_a_mend(reason: Bypass) -> None:
    """`_CHANGES` of `explain/advice.py` has the mend; `maxage.testing` tells both."""
    meaning, *mends = advice_for("bypass", reason)
    assert meaning == f"{reason}: {reason.text}"
    assert mends, f"{reason} is not in _CHANGES of explain/advice.py"


async def test_each_part_of_the_policy_names_its_source() -> None:
    """Decorators with file and line, rules by their pattern, settings with their value."""
    app = application(cache_expiration=7)
    told = await aexplain(app, "/items/05", {**HOST, "x-lang": "de"})
    assert told.route is not None
    assert told.route.template == "/items/{item_id}"
    assert told.route.source.startswith("tests/explain/test_explain.py:")
    value, source = sources(told)["lifetime"]
    assert value == "60 s"
    assert source.startswith("decorator of ")
    assert source.endswith(f"item ({told.route.source})")
    tags = [(part.value, part.source) for part in told.policy if part.name == "tags"]
    assert tags == [("item:{item_id}", source), ("all", "Rule('/items/**')")]
    assert [part.name for part in told.key_parts] == ["x-lang"]
    plain = sources(await aexplain(app, "/items", HOST))
    assert plain["lifetime"] == ("7 s", "CACHE_EXPIRATION=7")
    default = sources(await aexplain(application(), "/items", HOST))
    assert default["lifetime"] == ("300 s", "CACHE_EXPIRATION=300 (default)")
    assert sources(await aexplain(app, "/ruled", HOST))["cache"] == ("never", "Rule('/ruled')")
    probe = sources(await aexplain(app, "/health", HOST))["lifetime"]
    why = "no default lifetime: a probe, operations (GraphQL), or a secret in the URL"
    assert probe == ("none", why)
    checked = sources(await aexplain(app, "/me", HOST))["lifetime"]
    assert checked[1].endswith("a hit would skip the route's check of credentials")


async def test_each_thing_that_a_rule_can_say_is_told() -> None:
    """By the keyword that says it, but for the lifetime."""
    rule = Rule(
        "/x", cache=False, ttl=1, tags=["a"], vary_by=user, invalidates_only=["b"], isolated=True
    )
    app = CacheMiddleware(FastAPI(), rules=[rule])
    told = {part.name for part in (await aexplain(app, "/x", HOST)).policy}
    assert {part.name for part in (await aexplain(app, "/y", HOST)).policy} == {"lifetime"}
    names = {"ttl": "lifetime", "only": "invalidates_only"}
    assert told == {names.get(name, name) for name in Control.__struct_fields__}


async def test_the_rules_say_what_would_be_stored() -> None:
    """Three responses that the application might give, and what to change."""
    app = application()
    probe = await aexplain(app, "/health", HOST)
    assert [one.stored_for for one in probe.prospects] == [None, 60, 60]
    assert probe.changes[0].startswith("State a lifetime: @cached(ttl=...)")
    cookie = await aexplain(app, "/items", {**HOST, "cookie": "a=b"})
    assert cookie.credentials == "cookie"
    assert [one.stored_for for one in cookie.prospects] == [None, None, 60]
    assert any("CACHE_IGNORED_COOKIES" in change for change in cookie.changes)
    free = await aexplain(app, "/items", HOST)
    assert [one.stored_for for one in free.prospects] == [300, 60, 60]
    user_of = await aexplain(app, "/mine", {**HOST, "authorization": "Bearer anna"})
    assert user_of.credentials == ""
    assert [(p.name, p.value) for p in user_of.key_parts] == [("vary_by", "Bearer anna (str)")]


async def test_a_write_tells_what_it_purges_and_why() -> None:
    """Groups with their meaning, and the reads behind them."""
    told = await aexplain(application(), "PUT /items/5")
    assert (told.outcome, told.reason) == ("write", "method")
    purged = {part.name: (part.value, part.source) for part in told.purges}
    assert purged["c:/items"] == ("the path alone, with its queries", "the templates of the routes")
    assert purged["g:dash:5"][1].startswith("decorator of ")
    assert told.purged_reads == ("/items", "/items/{item_id}", "/mine")
    nothing = await aexplain(application(), "POST /login")
    assert nothing.purges == ()
    assert nothing.changes[0].startswith("Nothing is purged: ")
    overridden = await aexplain(application(), "GET /items", {"x-http-method-override": "PUT"})
    assert overridden.outcome == "write"
    everything = await aexplain(application(cache_purge="everything"), "PUT /items/5")
    assert everything.purges[0].source == "CACHE_PURGE=everything"


async def test_stale_directives_and_credentials_are_told_apart() -> None:
    """By the decision of the rules."""
    app = application()
    await get(app, "/items")
    asked = {"no-cache": "request", "only-if-cached, max-age=0": "only-if-cached"}
    await asyncio.sleep(0.01)
    for directive, reason in asked.items():
        told = await aexplain(app, "/items", {**HOST, "cache-control": directive})
        assert (told.outcome, told.reason) == ("miss", reason)
    told = await aexplain(app, "/items", {**HOST, "authorization": "x"})
    assert (told.outcome, told.reason, told.credentials) == ("miss", "bypass", "credentials")


def test_switched_off_says_so() -> None:
    """In place of all else."""
    told = explain(application(use_redis_cache=False), "/items")
    assert (told.outcome, told.reason) == ("bypass", "off")
    assert told.changes == ("Set USE_REDIS_CACHE=true.",)


@pytest.mark.parametrize(("written", "sent"), [("é", "%C3%A9"), ("\udcff", "%FF")])
def test_a_url_is_percent_encoded_as_clients_do(written: str, sent: str) -> None:
    """In path and query; a byte that is no UTF-8 reaches a command as a surrogate."""
    told = explain(application(), f"GET /items/{written}?a={written}")
    assert told.request == f"GET http://localhost/items/{sent}?a={sent}"


@pytest.mark.parametrize(
    "request_line", ["", "items", "GET items", "G3T /a", "ftp://a/b", "http://"]
)
def test_what_is_no_request_gets_a_sentence(request_line: str) -> None:
    """It names the form that is accepted."""
    with pytest.raises(SettingsError, match="it takes a form such as 'GET /items"):
        explain(application(), request_line)


@pytest.mark.parametrize("headers", [{"a b": "c"}, {"": "c"}, {"a": "b\nc"}])
def test_headers_that_none_can_send_are_refused(headers: dict[str, str]) -> None:
    """As a server would."""
    with pytest.raises(SettingsError, match="explain got"):
        explain(application(), "/items", headers)


def test_an_invalid_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the sentence of the application's own start."""
    monkeypatch.setenv("CACHE_EXPIRATION", "soon")
    app = FastAPI()
    app.add_middleware(CacheMiddleware)
    with pytest.raises(SettingsError, match="CACHE_EXPIRATION got 'soon'"):
        explain(app, "/items")


def test_the_text_and_the_json_hold_the_same() -> None:
    """Lines of about 100 characters, and values that JSON knows."""
    told = explain(application(), "GET https://example.org/items?limit=5#top")
    text = str(told)
    assert text.startswith("GET https://example.org/items?limit=5\nMISS (uri-miss): Nothing is")
    assert "p:/items  -  none yet" in text
    assert json.loads(json.dumps(told.as_dict()))["prospects"][0]["stored_for"] == 300


# on Redis


@pytest.fixture(scope="module")
def redis_process() -> Iterator[RedisServer]:
    with RedisServer.start() as server:
        yield server


@pytest.fixture
def redis(redis_process: RedisServer, generous_budgets: None) -> RedisServer:
    return redis_process


def on_redis(url: str) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.get("/items")(lambda: {"a": 1})
    app.put("/items/{item_id}")(lambda item_id: None)
    app.add_middleware(CacheMiddleware, settings=CacheSettings(redis_url=url))
    return app


async def test_another_process_sees_what_the_server_stored(redis: RedisServer) -> None:
    """Each application here stands for a process; asking writes nothing into Redis."""
    redis.flush()
    serving, looking = on_redis(redis.url), on_redis(redis.url)
    assert (await aexplain(looking, "/items", HOST)).reason == "uri-miss"
    assert redis.call("DBSIZE") == 0
    await get(serving, "/items")
    await background_done(cache_layer(serving))
    before = redis.call("KEYS", "*")
    told = await aexplain(looking, "GET http://testserver/items")
    assert (told.outcome, told.reason) == ("hit", "hit")
    assert sorted(redis.call("KEYS", "*")) == sorted(before)
    await apurge("/items", settings=CacheSettings(redis_url=redis.url))
    told = await aexplain(looking, "GET http://testserver/items")
    assert told.because == "A response is stored, but was purged since, by p:/items."
    elsewhere = await aexplain(looking, "GET /items")
    assert any("Scheme and host are part of the key" in change for change in elsewhere.changes)


async def test_without_the_server_every_request_is_a_bypass(redis: RedisServer) -> None:
    """With the error that the server's connection gave."""
    redis.stop()
    try:
        told = await aexplain(on_redis(redis.url), "/items", HOST)
    finally:
        redis.launch()
    assert (told.outcome, told.reason) == ("bypass", "store-away")
    assert "ConnectionError" in told.because
