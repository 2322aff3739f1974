"""A server that answers reads and refuses writes: no purge need tell of it."""

import pytest

from maxage import CacheSettings
from maxage.fastapi.cache_health import cache_health
from maxage.redis_store.redis_store import RedisStore
from tests.support.fault_proxy import FaultProxy

pytestmark = pytest.mark.anyio

TOLD = "Redis refuses to store responses"


@pytest.mark.parametrize("fresh", [True, False], ids=["tokens", "responses"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("OOM", "OutOfMemoryError"),
        ("READONLY", "ReadOnlyError"),
        ("MISCONF", "MISCONF"),
        ("NOPERM this user has no permissions to run the 'set' command", "NoPermissionError"),
    ],
)
async def test_the_log_and_the_health_tell_that_nothing_is_stored(
    answer: str,
    reason: str,
    *,
    fresh: bool,
    fault_proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An application that only reads had no hits, an empty log, and a health of ok."""
    settings = CacheSettings(
        redis_url=fault_proxy.url, cache_namespace=reason, cache_read_budget=5, cache_write_budget=5
    )
    store = RedisStore(fault_proxy.url, settings)
    await store.open()

    async def use() -> bool:
        if fresh:
            return None not in (await store.read([b"a"], ["p:/a"])).tokens
        return await store.write([(b"a", b"1")], keep_for=60, tokens={})

    fault_proxy.error(answer, commands={"SET"})
    for _ in range(3):
        assert not await use()
    assert caplog.text.count(TOLD) == 1
    told = cache_health(settings)
    assert (told.status, reason in told.detail) == ("ok", True)
    fault_proxy.pass_through()
    assert await use()
    assert "Redis" not in cache_health(settings).detail
    await store.close()
