"""Purges and tags by hand: what application code can say about its own responses."""

import asyncio
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Response

import maxage
from maxage import (
    CacheMiddleware,
    CacheSettings,
    MemoryStore,
    RedisStore,
    Rule,
    SettingsError,
    Store,
    apurge,
    apurge_all,
    apurge_path,
    apurge_tags,
    cached,
    invalidates,
    purge,
    purge_all,
    purge_path,
    purge_tags,
    tag,
)
from maxage.redis import RedisCache
from maxage.store_factory import store_for
from tests.support.asgi import Exchange, call, http_scope, routed
from tests.support.caching import background_done
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio

CONTROL = {"/a/1", "/a/2", "/b"}
"""What the shop below can answer with, all of it stored at first."""


def settings_for(url: str | None = None) -> CacheSettings:
    """A namespace of its own, and patience with a busy machine."""
    return CacheSettings(
        redis_url=url,
        cache_namespace=f"t{uuid.uuid4().hex[:12]}",
        cache_read_budget=5.0,
        cache_write_budget=5.0,
    )


class Site:
    """Three pages, with tags; `state` is what they show, so that a stale one shows itself."""

    def __init__(self, settings: CacheSettings, store: Store, **options: Any) -> None:
        self.settings = settings
        self.state = 0
        self.app = app = FastAPI(openapi_url=None)

        @app.get("/a/{number}")
        @cached(tags=["a:{number}", "all"])
        async def a(number: int) -> int:
            return self.state

        @app.get("/b")
        async def b() -> Response:
            return Response(str(self.state), headers={"Cache-Tag": "b,all"})

        self.middleware = CacheMiddleware(app, settings, store=store, **options)

    async def get(self, path: str) -> tuple[str, bool]:
        """The body, and whether it came from the store."""
        answer = await call(self.middleware, path=path)
        assert answer.status == 200, answer.body
        return answer.body.decode(), b"hit" in (answer.header("cache-status") or b"")

    async def fill(self) -> None:
        """Store all pages in their present state."""
        for path in ("/a/1", "/a/2", "/b", "/b"):
            await self.get(path)
        assert await self.kept() == CONTROL

    async def kept(self) -> set[str]:
        """The pages that are still served from the store, as they were."""
        await background_done(self.middleware)
        return {path for path in CONTROL if (await self.get(path))[1]}


@pytest.fixture(params=["memory", "redis"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """The site on each store, filled."""
    if request.param == "memory":
        settings = settings_for()
        made = Site(settings, MemoryStore())
    else:
        settings = settings_for(request.getfixturevalue("redis_url"))
        made = Site(settings, RedisStore(settings.redis_url or "", settings))
    await made.fill()
    yield made
    await made.middleware.aclose()


WAYS: list[tuple[Any, Any, set[str]]] = [
    (lambda **o: purge_tags("a:1", **o), lambda **o: apurge_tags("a:1", **o), {"/a/2", "/b"}),
    (lambda **o: purge_tags("b", "a:2", **o), lambda **o: apurge_tags("b", "a:2", **o), {"/a/1"}),
    (lambda **o: purge_tags("all", **o), lambda **o: apurge_tags("all", **o), set()),
    (lambda **o: purge_path("/a", **o), lambda **o: apurge_path("/a", **o), {"/b"}),
    (lambda **o: purge_path("/a/2?x=1", **o), lambda **o: apurge_path("/a/2", **o), {"/a/1", "/b"}),
    (lambda **o: purge("/b", "a:1", **o), lambda **o: apurge("/b", "a:1", **o), {"/a/2"}),
    (lambda **o: purge("/", **o), lambda **o: apurge_path("/", **o), set()),
    (purge_all, apurge_all, set()),
    (lambda **o: purge_tags("none", **o), lambda **o: apurge_tags("none", **o), CONTROL),
    (purge, apurge, CONTROL),
]


@pytest.mark.parametrize("where", ["handler", "dependency", "background", "thread", "late"])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("now", "awaited", "kept"), WAYS)
async def test_a_purge_inside_a_request_drops_what_it_names_and_nothing_else(
    site: Site, now: Any, awaited: Any, kept: set[str], *, plain: bool, where: str
) -> None:
    """In async and plain code, wherever in the request it stands; it says that it is confirmed."""
    said: list[bool] = []

    async def run() -> None:
        if where == "thread":
            said.append(await asyncio.to_thread(now))
        else:
            said.append(now() if plain else await awaited())

    async def late() -> AsyncGenerator[None]:
        if where == "dependency":
            await run()
        yield
        if where == "late":
            await run()

    async def poke(tasks: BackgroundTasks, _: Annotated[None, Depends(late)]) -> None:
        if where in {"handler", "thread"}:
            await run()
        elif where == "background":
            tasks.add_task(run)

    site.app.get("/poke", dependencies=[])(poke)
    await call(site.middleware, path="/poke")
    assert said == [True]
    assert await site.kept() == kept


@pytest.mark.parametrize(("now", "awaited", "kept"), WAYS)
async def test_a_purge_outside_of_requests_reaches_the_store_of_the_settings(
    redis_url: str, now: Any, awaited: Any, kept: set[str]
) -> None:
    """A script or a cron job with the same environment."""
    for one in (now, awaited):
        settings = settings_for(redis_url)
        site = Site(settings, RedisStore(redis_url, settings))
        await site.fill()
        answer = one(settings=settings)
        assert (answer if isinstance(answer, bool) else await answer) is True
        assert await site.kept() == kept
        await site.middleware.aclose()
        await store_for(settings).close()


async def test_a_purge_from_a_thread_without_an_event_loop(redis_url: str) -> None:
    """A plain thread carries nothing of any request, and needs nothing of it."""
    settings = settings_for(redis_url)
    site = Site(settings, RedisStore(redis_url, settings))
    await site.fill()
    thread = threading.Thread(target=purge_tags, args=("b",), kwargs={"settings": settings})
    thread.start()
    await asyncio.to_thread(thread.join)
    assert await site.kept() == {"/a/1", "/a/2"}
    await site.middleware.aclose()


async def test_by_default_the_environment_names_the_store(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the typed cache."""
    settings = settings_for(redis_url)
    site = Site(settings, RedisStore(redis_url, settings))
    await site.fill()
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("CACHE_NAMESPACE", settings.cache_namespace)
    assert await asyncio.to_thread(purge_tags, "b")
    assert await site.kept() == {"/a/1", "/a/2"}
    await site.middleware.aclose()


async def test_where_caching_is_off_nothing_is_purged_and_nothing_connected() -> None:
    """It says so."""
    settings = CacheSettings(redis_url="redis://127.0.0.1:1", use_redis_cache=False)
    assert purge_all(settings=settings) is False
    assert await apurge_tags("a", settings=settings) is False


async def test_a_purge_that_redis_does_not_confirm_says_so(own_redis: RedisServer) -> None:
    """It is owed from then on."""
    settings = settings_for(own_redis.url)
    store = RedisStore(own_redis.url, settings)
    await store.read((), ("g:a",))
    own_redis.kill()
    assert await apurge_tags("a", settings=settings) is False
    assert await asyncio.to_thread(lambda: purge_tags("a", settings=settings)) is False
    assert not store.redis_state.trusted
    await store.close()
    await store_for(settings).close()


@pytest.mark.parametrize("error", [None, 404, 500])
async def test_a_purge_is_made_again_when_the_application_has_returned(
    site: Site, error: int | None
) -> None:
    """What was read between the purge and a late commit is not kept, whatever the answer was."""
    purged, go_on = asyncio.Event(), asyncio.Event()

    @site.app.get("/change")
    async def change() -> None:
        await apurge_tags("b")
        purged.set()
        await go_on.wait()
        site.state += 1  # the commit
        if error:
            raise HTTPException(error)

    changing = Exchange(site.middleware, http_scope(path="/change")).start()
    await asyncio.wait_for(purged.wait(), PATIENCE)
    assert (await site.get("/b"))[0] == "0"
    go_on.set()
    await changing.finish()
    assert (await site.get("/b"))[0] == "1"


async def test_a_template_is_purged_as_a_path_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It may be a value that a client sent: the handler that has changed it must not fail."""
    app, titles = FastAPI(openapi_url=None), {"{draft}": "old"}

    @app.get("/pages/{slug}")
    async def page(slug: str) -> str:
        return titles[slug]

    @app.post("/rename")
    async def rename() -> None:
        titles["{draft}"] = "new"
        await apurge("/pages/{draft}")

    middleware = CacheMiddleware(app, settings_for(), store=MemoryStore())
    assert (await call(middleware, path="/pages/{draft}")).body == b'"old"'
    assert (await call(middleware, "POST", "/rename")).status == 200
    assert (await call(middleware, path="/pages/{draft}")).body == b'"new"'
    await middleware.aclose()
    purge_path("/a/{p:path}/b")
    for where, name in (("purge()", "/pages/{draft}"), ("purge_path()", "/a/{p:path}/b")):
        assert f"{where} got '{name}'; it takes a path with values for its" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (lambda: purge_path("a"), "purge_path.* got 'a'; it takes a path, which begins with /"),
        (lambda: purge_tags(""), "purge_tags.* got ''; it takes strings"),
        (lambda: purge_tags(["a"]), r"got \['a'\]; it takes strings"),
        (lambda: purge(5), "got 5; it takes strings"),
        (lambda: tag(5), "got 5; it takes strings"),
        (lambda: invalidates(""), r"invalidates.* got \(''"),
        (lambda: Rule("/a", invalidates="/b"), "Rule got invalidates='/b'; it takes strings"),
        (lambda: cached(tags="news"), "got tags='news'; it takes strings"),
    ],
)
async def test_what_cannot_be_meant_gets_a_sentence(wrong: Any, complaint: str) -> None:
    """It names what was wrong, and what is accepted."""
    with pytest.raises(SettingsError, match=complaint):
        wrong()


async def test_a_store_that_can_only_be_awaited_says_what_to_use() -> None:
    """A store of the user's own."""
    memory = MemoryStore()

    class Own:
        def __getattr__(self, name: str) -> Any:
            return getattr(memory, name)

    site = Site(settings_for(), Own())

    @site.app.get("/purge")
    async def poke() -> str:
        assert await apurge_all()
        with pytest.raises(SettingsError, match="Own can only be awaited; use apurge"):
            purge_all()
        return "done"

    assert (await site.get("/purge"))[0] == '"done"'


# soft purges


@pytest.mark.parametrize("purged", ["tag", "path", "all"])
async def test_a_soft_purge_serves_once_more_and_refreshes_in_the_background(
    site: Site, purged: str
) -> None:
    """The next request gets the old page at once, the one after it the new one, from the store."""
    site.state = 1

    @site.app.get("/soften")
    async def soften() -> bool:
        if purged == "tag":
            return await apurge_tags("a:1", soft=True)
        if purged == "path":
            return purge_path("/a/1", soft=True)
        return await apurge_all(soft=True)

    assert (await site.get("/soften"))[0] == "true"
    assert await site.get("/a/1") == ("0", True)
    await background_done(site.middleware)
    assert await site.get("/a/1") == ("1", True)
    left = "0" if purged != "all" else "1"
    await site.get("/a/2")
    await background_done(site.middleware)
    assert await site.get("/a/2") == (left, True)


async def test_many_requests_for_what_was_softly_purged_refresh_it_once(site: Site) -> None:
    """However many ask."""
    runs: list[int] = []

    @site.app.get("/slow")
    @cached(tags=["slow"])
    async def slow() -> int:
        runs.append(1)
        await asyncio.sleep(0)
        return len(runs)

    await site.get("/slow")
    cache = site.middleware.cache
    assert cache is not None
    await background_done(site.middleware)
    await cache.store.soften(("g:slow",))
    answers = await asyncio.gather(*(site.get("/slow") for _ in range(20)))
    await background_done(site.middleware)
    assert set(answers) == {("1", True)}
    assert len(runs) == 2


async def test_a_purge_after_a_soft_one_is_a_purge(site: Site) -> None:
    """And a soft one after it does not bring anything back."""
    cache = site.middleware.cache
    assert cache is not None
    site.state = 1
    await cache.store.soften(("g:b",))
    await cache.store.renew(("g:b",))
    await cache.store.soften(("g:b",))
    assert await site.get("/b") == ("1", False)


async def test_a_soft_purge_does_not_outlive_the_purge_of_another_group(site: Site) -> None:
    """Every group of a response has a say."""
    cache = site.middleware.cache
    assert cache is not None
    site.state = 1
    await cache.store.soften(("g:all",))
    await cache.store.renew(("g:b",))
    assert (await site.get("/b"))[0] == "1"
    assert (await site.get("/a/1"))[0] == "0"


async def test_a_fill_under_way_during_a_soft_purge_is_refreshed(site: Site) -> None:
    """It may show what was before the change."""
    started, go_on = asyncio.Event(), asyncio.Event()

    @site.app.get("/fill")
    @cached(tags=["fill"])
    async def fill() -> int:
        shown = site.state
        started.set()
        await go_on.wait()
        return shown

    filling = Exchange(site.middleware, http_scope(path="/fill")).start()
    await asyncio.wait_for(started.wait(), PATIENCE)
    site.state = 1
    cache = site.middleware.cache
    assert cache is not None
    await cache.store.soften(("g:fill",))
    go_on.set()
    await filling.finish()
    assert await site.get("/fill") == ("0", True)
    await background_done(site.middleware)
    assert await site.get("/fill") == ("1", True)


async def test_a_client_that_wants_no_stored_response_gets_none_after_a_soft_purge(
    site: Site,
) -> None:
    """Cache-Control: no-cache."""
    cache = site.middleware.cache
    assert cache is not None
    site.state = 1
    await cache.store.soften(("g:b",))
    answer = await call(site.middleware, path="/b", headers={"cache-control": "no-cache"})
    assert answer.body == b"1"


# tags from the request


async def test_a_tag_from_the_request_is_a_late_group() -> None:
    """Not known before the handler ran, it is looked at beforehand from the second time on."""
    site = Site(settings_for(), MemoryStore())

    async def signed_in() -> None:
        tag("tenant:7")

    @site.app.get("/mine", dependencies=[Depends(signed_in)])
    async def mine() -> int:
        await asyncio.to_thread(tag, "thread")
        tag("one", "two")
        return site.state

    assert [(await site.get("/mine"))[1] for _ in range(3)] == [False, False, True]
    for purged in ("tenant:7", "one", "two", "thread"):
        cache = site.middleware.cache
        assert cache is not None
        await cache.store.renew((f"g:{purged}",))
        assert [(await site.get("/mine"))[1] for _ in range(2)] == [False, True], purged


async def test_a_tag_that_comes_while_the_body_is_sent_counts() -> None:
    """What is read for the body of a stream may need one too."""
    store = MemoryStore()
    runs: list[int] = []

    @routed
    async def app(scope: Any, receive: Any, send: Any) -> None:
        runs.append(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        tag("late")
        await send({"type": "http.response.body", "body": b"whole"})

    middleware = CacheMiddleware(app, settings_for(), store=store)
    for _ in range(3):
        await call(middleware)
    assert len(runs) == 2
    await store.renew(("g:late",))
    await call(middleware)
    assert len(runs) == 3


async def test_tags_are_bounded_in_number_and_length() -> None:
    """A response that cannot be purged by all that it names is not stored."""
    site = Site(settings_for(), MemoryStore())

    @site.app.get("/tags/{number}/{length}")
    async def tags(number: int, length: int) -> Response:
        names = ",".join(f"{n:0{length}}" for n in range(number))
        return Response("x", headers={"Cache-Tag": names})

    for path, stored in [
        ("/tags/32/8", True),
        ("/tags/33/8", False),
        ("/tags/1/1024", True),
        ("/tags/1/1025", False),
    ]:
        for _ in range(3):
            hit = (await site.get(path))[1]
        assert hit is stored, path


async def test_outside_of_a_request_a_tag_is_nothing() -> None:
    """A function that tags may be called from anywhere."""
    tag("a")


# declared on routes and in rules


@pytest.mark.parametrize("how", ["decorator", "rule"])
async def test_what_a_route_declares_is_purged_too(how: str) -> None:
    """Paths and tags, with path parameters in them; nothing else."""
    names = ["/b", "a:{number}"]
    rules = [Rule("/do/*", invalidates=names)] if how == "rule" else []
    site = Site(settings_for(), MemoryStore(), rules=rules)

    async def do(number: int) -> None: ...

    site.app.post("/do/{number}")(invalidates(*names)(do) if how == "decorator" else do)
    await site.fill()
    await call(site.middleware, "POST", "/do/01")
    assert await site.kept() == {"/a/2"}


async def test_decorators_of_one_endpoint_add_up() -> None:
    """An endpoint that answers GET and POST may say something about both."""

    @cached(ttl=5)
    @invalidates("/b")
    async def endpoint() -> None: ...

    site = Site(settings_for(), MemoryStore())
    site.app.api_route("/both", methods=["GET", "POST"])(endpoint)
    await site.fill()
    assert await site.get("/both") == ("null", False)
    assert await site.get("/both") == ("null", True)
    await call(site.middleware, "POST", "/both")
    assert await site.kept() == {"/a/1", "/a/2"}


async def test_a_name_that_the_route_does_not_have_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It would purge nothing, without notice."""
    site = Site(settings_for(), MemoryStore())
    site.app.post("/x/{item}")(invalidates("item:{item_id}")(Site.get))
    await site.get("/b")
    assert "/x/{item} has no path parameter 'item_id'" in caplog.text


async def test_a_parameter_that_looks_like_a_name_is_not_taken_for_one() -> None:
    """What a client sends names no other parameter."""
    store = MemoryStore()
    app = FastAPI(openapi_url=None)

    @app.get("/{first}/{second}")
    @cached(tags=["{first}-{second}"])
    async def both(first: str, second: str) -> None: ...

    middleware = CacheMiddleware(app, settings_for(), store=store)
    await call(middleware, path="/{second}/b")
    assert "g:{second}-b" in store._tokens.present()


def test_all_of_it_is_public() -> None:
    """Importable from the package itself."""
    names = {"purge", "purge_all", "purge_path", "purge_tags"}
    assert names | {f"a{name}" for name in names} | {"tag", "invalidates"} <= set(maxage.__all__)


# one middleware in another


@pytest.mark.parametrize("how", ["typed", "tag", "purge"])
async def test_an_outer_middleware_learns_what_the_inner_one_knows(
    redis_url: str, how: str
) -> None:
    """A hit of the inner one runs no handler; what it depends on is known all the same."""
    settings = settings_for(redis_url)
    numbers = RedisCache[int](int, prefix="number", settings=settings)
    site = Site(settings, RedisStore(redis_url, settings))

    @site.app.get("/number")
    async def number() -> int:
        if how == "tag":
            tag("number:1")
            return site.state
        if how == "purge":
            return site.state
        return await numbers.aget_or_set(1, lambda: site.state)

    inner = site.middleware
    outer = CacheMiddleware(inner, settings, rules=[Rule("/number", ttl=300)])

    async def get(app: Any) -> bytes:
        answer = await call(app, path="/number")
        await background_done(site.middleware)
        await background_done(outer)
        return answer.body

    for app in (inner, inner, inner, outer, outer, outer):
        assert await get(app) == b"0"
    answer = await call(outer, path="/number")
    assert (answer.header("cache-status") or b"").count(b"hit") == 1, "the outer one answers"
    site.state = 1
    if how == "purge":
        await apurge_path("/number", settings=settings)
    else:
        await numbers.adelete(1)
    assert await get(outer) == b"1"
    await outer.aclose()


async def test_an_outer_middleware_with_another_store_keeps_nothing_that_it_cannot_purge() -> None:
    """A purge of the inner one's store would never reach it."""
    site = Site(settings_for(), MemoryStore())
    outer = CacheMiddleware(site.middleware, settings_for(), store=MemoryStore())
    await site.fill()
    for _ in range(3):
        answer = await call(outer, path="/b")
        assert b"hit" in (answer.headers_named("cache-status")[0])
        assert b"fwd" in (answer.headers_named("cache-status")[-1])


@pytest.mark.parametrize("mode", ["exact", "prompt"])
async def test_a_soft_purge_reaches_the_near_cache_of_another_process(
    redis_url: str, mode: str
) -> None:
    """The copy there is served no longer than until the refresh has come to its end."""
    settings = settings_for(redis_url).model_copy(
        update={"cache_near_bytes": 1_000_000, "cache_near": mode}
    )
    site = Site(settings, RedisStore(redis_url, settings))
    cache = site.middleware.cache
    assert cache is not None
    await cache.open()
    async with asyncio.timeout(PATIENCE):
        await site.get("/a/1")
        await background_done(site.middleware)
        while cache.store.near is None or not len(cache.store.near):
            await site.get("/a/1")
            await asyncio.sleep(0.01)
    site.state = 1
    other = RedisStore(redis_url, settings_for(redis_url).model_copy(
        update={"cache_namespace": settings.cache_namespace}
    ))  # fmt: skip
    assert await other.soften(("g:a:1",))
    async with asyncio.timeout(PATIENCE):
        while await site.get("/a/1") != ("1", True):
            await background_done(site.middleware)
            await asyncio.sleep(0.01)
    await other.close()
    await site.middleware.aclose()
