"""Publisher: the report of each worker in the store, for `maxage shadow`."""

from typing import Final

import msgspec

from maxage.cache.cache import Cache
from maxage.redis_store.leases.process_identity import process_name
from maxage.redis_store.observer import Observer
from maxage.settings import CacheSettings
from maxage.shadow.report import ShadowReport, together

_KEEP_SECONDS: Final = 86_400.0
_MOST_WORKERS: Final = 256
"""Workers whose reports are kept, those that have ended included."""


def _list_name(settings: CacheSettings) -> bytes:
    return f"{settings.cache_namespace}:shadow".encode()


async def publish(cache: Cache, report: ShadowReport) -> None:
    """Write the report of this process."""
    name = _list_name(cache.settings)
    key = b"%b:%b" % (name, process_name().encode())
    value = msgspec.json.encode(report)
    if await cache.store.write([(key, value)], keep_for=_KEEP_SECONDS, tokens={}):
        await cache.store.enlist(name, [key], most=_MOST_WORKERS, keep_for=_KEEP_SECONDS)


def read_reports(settings: CacheSettings) -> ShadowReport | None:
    """Return the sum of the reports of all workers of the last day; None: there is none.

    Raises:
        StoreUnavailableError: the server did not answer.
    """
    observer = Observer(settings)
    name = _list_name(settings)
    (listed,) = observer.ask(observer.node_for(name), [("LRANGE", name, 0, -1)])
    keys: list[bytes] = [] if isinstance(listed, Exception) else listed
    reports: list[ShadowReport] = []
    for key in keys:
        (value,) = observer.ask(observer.node_for(key), [("GET", key)])
        if isinstance(value, bytes):
            reports.append(msgspec.json.decode(value, type=ShadowReport))
    return together(reports) if reports else None
