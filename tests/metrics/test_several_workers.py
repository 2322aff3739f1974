"""prometheus-client's multiprocess mode: each worker answers for all of them."""

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.workers import Workers

NAME, ROUTE = "maxage_requests_total", "/items/{number}"
APP = """
import os
from fastapi import FastAPI, Response
from maxage import CacheMiddleware
from maxage.fastapi import metrics_router

app = FastAPI()
app.add_middleware(CacheMiddleware)
app.include_router(metrics_router())

@app.get("/items/{number}")
def item(number: int, response: Response) -> int:
    response.headers["x-worker"] = str(os.getpid())
    return number

@app.get("/worker", include_in_schema=False)
def worker(response: Response) -> int:
    response.headers["cache-control"] = "no-store"
    return os.getpid()
"""


def scraped(url: str) -> dict[tuple[str, ...], float]:
    """The value of each sample, by its name and its labels."""
    text = httpx.get(url + "/metrics", timeout=30).text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("ends", ["in good order", "killed"])
def test_two_workers_add_up(
    ends: str, own_redis: RedisServer, workers: Workers, tmp_path: Path
) -> None:
    """What each one counted is in the answer of both, and stays when one has ended; gauges go."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    env = {
        "REDIS_URL": own_redis.url, "CACHE_READ_BUDGET": "5", "CACHE_WRITE_BUDGET": "5",
        "PROMETHEUS_MULTIPROC_DIR": str(folder),
    }  # fmt: skip
    one, two = (workers.start(APP, env=env) for _ in range(2))
    for worker, number in ((one, 3), (two, 5)):
        for _ in range(number):
            httpx.get(f"{worker.url}/items/1", timeout=30)

    def both() -> bool:
        found = [scraped(worker.url) for worker in (one, two)]
        hits = [one.get((NAME, "hit", ROUTE), 0) for one in found]
        # Each worker has a port, and so a host and URLs, of its own.
        misses = [one.get((NAME, "uri-miss", ROUTE), 0) for one in found]
        return hits == [6, 6] and misses == [2, 2]

    wait_until(both, "both tell of all requests")
    found = scraped(one.url)
    assert found["maxage_store_trusted",] == 1
    timed = [found[name] for name in found if name[0] == "maxage_added_latency_seconds_count"]
    assert sum(timed) >= 2
    if ends == "killed":
        two.kill()
    else:
        two.terminate()
    after = scraped(one.url)
    assert after[NAME, "hit", ROUTE] == found[NAME, "hit", ROUTE]
    # A worker that is killed cannot take itself out of them.
    assert len(list(folder.glob("gauge_live*.db"))) == 3
