"""Requests that workers recorded, as those of a log."""

from typing import Any

from fastapi import FastAPI, Security
from fastapi.security import APIKeyHeader

from maxage import CacheMiddleware, CacheSettings, cached
from maxage.insight.requests import RecordedRequest
from maxage.simulate.outcome import Outcome
from maxage.simulate.recorded import logged
from maxage.simulate.simulation import Simulation


def request(time: float, target: str = "/items", status: int = 0, **more: Any) -> RecordedRequest:
    return RecordedRequest(time, more.pop("method", "GET"), "shop.example", target, status, **more)


def test_what_the_cache_answered_has_the_answer_of_the_application() -> None:
    """The last one before it; else the first one after it. A 304 is no answer of its own."""
    said = ((b"cache-control", b"max-age=9"),)
    played = list(
        logged(
            [
                request(0),
                request(1, status=200, size=10, seconds=0.5),
                request(2, status=404, size=20, seconds=0.1, has_user=True, said=said),
                request(3),
                request(4, status=304, seconds=0.2),
                request(5, method="HEAD", status=405),
                request(6, "/other"),
                request(7, "/other", 304, seconds=0.3),
            ]
        )
    )
    assert [(one.status, one.size, one.seconds) for one in played] == [
        (200, 10, 0.5),
        (200, 10, 0.5),
        (404, 20, 0.1),
        (404, 20, 0.1),
        (404, 20, 0.1),
        (405, 0, 0.0),
        (200, 0, None),
        (200, 0, 0.3),
    ]
    assert [one.time for one in played] == list(range(8))
    assert [one.has_user for one in played] == [False, False, True, *[False] * 5]
    assert played[3].response_headers == said
    assert {one.host for one in played} == {"shop.example"}


def shop() -> FastAPI:
    app = FastAPI()
    key = APIKeyHeader(name="x-key", auto_error=False)

    @app.get("/items")
    async def items() -> int:
        return 1

    @app.get("/guarded", dependencies=[Security(key)])
    @cached(ttl=60)
    async def guarded() -> int:
        return 1

    app.add_middleware(CacheMiddleware, settings=CacheSettings(redis_url="memory://"))
    return app


def simulated(*requests: RecordedRequest) -> Outcome:
    simulation = Simulation(shop())
    simulation.run(logged(requests))
    return simulation.outcome()


def test_what_an_answer_says_itself_counts() -> None:
    """A log tells of it seldom."""
    calls = [request(second, status=200) for second in range(4)]
    assert simulated(*calls).total.now.hit_rate == 3 / 4
    private = ((b"cache-control", b"private"),)
    told = simulated(*(request(second, status=200, said=private) for second in range(4)))
    assert told.total.now.hit_rate == 0
    assert told.total.not_stored == {"private": 4}
    cookie = ((b"set-cookie", b""),)
    told = simulated(*(request(second, status=200, said=cookie) for second in range(4)))
    assert told.total.not_stored == {"set-cookie": 4}


def test_a_request_with_credentials_goes_to_the_application_whatever_is_stored() -> None:
    """Unless the answer is for all."""
    own = request(1, status=200, has_user=True)
    told = simulated(request(0, status=200), own, own, request(2))
    assert told.total.now.hit_rate == 1 / 4
    assert told.total.not_stored == {"credentials": 2}
    public = ((b"cache-control", b"public, max-age=60"),)
    shared = request(1, status=200, has_user=True, said=public)
    assert simulated(shared, shared, shared).total.now.hit_rate == 2 / 3


def test_a_route_that_checks_credentials_is_answered_by_the_application() -> None:
    """As the cache does it: a hit would skip the check."""
    told = simulated(*(request(second, "/guarded", 200) for second in range(3)))
    assert told.total.now.hit_rate == 0
    assert told.total.not_stored == {"credentials": 3}
