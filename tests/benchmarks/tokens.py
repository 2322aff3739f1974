"""What the tokens of a hit cost to read: the same hits, with and without them, in turn.

`python -m tests.benchmarks.tokens` prints the processor time of the worker for each hit from Redis
with 32 requests at once, each for another URL, so that each has groups of its own.
"""

import argparse
import asyncio
import statistics
import time
from typing import Any, cast

import pytest

from maxage.cache import lookup as reader
from maxage.redis_store.redis_store import RedisStore
from tests.benchmarks import apps, inprocess
from tests.support.asgi import call
from tests.support.redis_server import RedisServer

CONCURRENT = 32


def main() -> None:
    """Measure in turn, and print the medians and their difference."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--requests", type=int, default=8_000)
    asked = options.parse_args()
    with RedisServer.start() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDIS_URL", server.url)
        patch.setenv("CACHE_NEAR_BYTES", "0")
        app = apps.wrapped()
        inprocess._loop().run_until_complete(_measured(app, asked))


async def _measured(app: Any, asked: argparse.Namespace) -> None:
    paths = [f"/items/{number}" for number in range(CONCURRENT)]
    clients = [argparse.Namespace(method="GET", path=path) for path in paths]

    async def play() -> float:
        began = time.process_time()
        each = asked.requests // CONCURRENT
        await asyncio.gather(*(inprocess._client(app, client, each) for client in clients))
        return (time.process_time() - began) / asked.requests * 1e6

    await play()
    await asyncio.sleep(0.2)
    await play()
    (answer,) = {(await _status(app, path)).partition(b";")[2][:4] for path in paths}
    assert answer == b" hit", answer
    store = cast("Any", app.cache.store)
    assert isinstance(store, RedisStore)
    batcher = cast("Any", store)._sides.get().lookups
    with_tokens, is_current = batcher._fetch, reader.is_current
    known: dict[str, bytes | None] = {}

    async def remembering(keys: list[bytes], groups: list[str]) -> Any:
        values, tokens = await with_tokens(keys, groups)
        known.update(zip(groups, tokens, strict=True))
        return values, tokens

    async def without_tokens(keys: list[bytes], groups: list[str]) -> Any:
        values, _ = await with_tokens(keys, [])
        return values, [known[group] for group in groups]

    batcher._fetch = remembering
    await play()
    took: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(asked.rounds):
        batcher._fetch = with_tokens
        took["with"].append(await play())
        batcher._fetch = without_tokens
        reader.is_current = lambda entry, tokens, needed: True
        took["without"].append(await play())
        reader.is_current = is_current
    many, few = (statistics.median(took[name]) for name in ("with", "without"))
    print(
        f"{many:.1f} us a hit with its tokens, {few:.1f} us without: {many - few:.1f} us"
        f" ({len(known)} groups of {CONCURRENT} URLs)"
    )
    await app.aclose()


async def _status(app: Any, path: str) -> bytes:
    headers = [(name.decode(), value.decode()) for name, value in inprocess.HEADERS]
    return (await call(app, path=path, headers=headers)).header("cache-status") or b""


if __name__ == "__main__":
    main()
