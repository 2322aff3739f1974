"""State of the cache for the page: the figures of all workers, and what is wrong, in sentences."""

from dataclasses import dataclass
from typing import Final

from maxage.errors import StoreUnavailableError
from maxage.fastapi.cache_health import cache_health
from maxage.insight.doctor import Check, checks_of_facts, latency, mend_of, permissions
from maxage.insight.doctor import State as CheckState
from maxage.insight.overview import Overview, overview_of_process, read_overview
from maxage.insight.server_facts import ServerFacts, server_facts
from maxage.insight.units import counted, size
from maxage.redis_store.observer import Observer
from maxage.redis_url import server_url
from maxage.settings import CacheSettings

_ROUND_TRIPS: Final = 3
_NEARLY_FULL: Final = 0.9
"""The part of a server's memory limit from which the page says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the page shows of the cache."""

    overview: Overview
    servers: tuple[ServerFacts, ...]
    troubles: tuple[str, ...]
    """State, consequence and mend of all that is wrong; empty: all is well."""
    hints: tuple[str, ...]
    """What could be better, or is not shown and why."""


def read_state(settings: CacheSettings) -> State:
    """Return the state now; a server that does not answer is one of its troubles."""
    troubles: list[str] = []
    servers: tuple[ServerFacts, ...] = ()
    checks: list[Check] = []
    try:
        told = read_overview(settings)
        if server_url(settings.redis_url) is not None:
            observer = Observer(settings)
            servers = tuple(server_facts(observer))
            checks = [check for one in servers for check in checks_of_facts(one)]
            checks += [latency(settings, observer, one, _ROUND_TRIPS) for one in observer.nodes()]
            checks.append(permissions(settings, observer))
    except StoreUnavailableError as error:
        told = overview_of_process(settings)
        troubles.append(
            f"Redis does not answer ({error}): responses come from the application, uncached. The "
            f"figures below are of this worker alone. {mend_of(error)} The cache comes back by "
            "itself."
        )
    wrong = [one for one in checks if one.state is CheckState.WRONG]
    troubles += _troubles(settings, told)
    troubles += [f"Redis, {one.name}: {one.found.rstrip('.')}. {one.change}" for one in wrong]
    return State(
        overview=told,
        servers=servers,
        troubles=tuple(troubles),
        hints=(*_hints(settings, told), *([] if wrong else _server_hints(servers))),
    )


def _troubles(settings: CacheSettings, told: Overview) -> list[str]:
    troubles: list[str] = []
    cut_off = sum(bool(one.breakers_open) for one in told.workers)
    if cut_off:
        troubles.append(
            f"{cut_off} of {counted(len(told.workers), 'worker')} cannot use a Redis server: "
            "requests there are answered uncached, and it is tried again every 0.2 s. Their log "
            "tells the reason; if this page can use the server, look at the network, the user and "
            "the password of the others."
        )
    # A worker cannot publish what it owes to a server that takes no writes.
    owed = told.owed_purges or cache_health(settings).owed_purges
    if owed:
        troubles.append(
            f"Purges of {counted(owed, 'group')} are owed, since Redis did not confirm "
            "them: the workers that owe them serve nothing from Redis until they are made, which "
            "happens by itself once Redis takes writes."
        )
    return troubles


def _hints(settings: CacheSettings, told: Overview) -> list[str]:
    hints: list[str] = []
    if not settings.use_redis_cache:
        hints.append("The cache is off: USE_REDIS_CACHE is false.")
    elif not settings.cache_insight:
        hints.append(
            "No figures are kept: set CACHE_INSIGHT=true for the application and start it anew."
        )
    elif not told.workers:
        hints.append(
            "No worker has published its figures within 20 s: there are no requests, Redis takes "
            "no writes, or the workers use another REDIS_URL or CACHE_NAMESPACE."
        )
    if told.unreadable:
        hints.append(
            f"{told.unreadable} stored values could not be read and counted as misses: they are "
            "damaged, or written with another CACHE_SECRET."
        )
    return hints


def _server_hints(servers: tuple[ServerFacts, ...]) -> list[str]:
    hints: list[str] = []
    for one in servers:
        if one.max_memory and one.used_memory > _NEARLY_FULL * one.max_memory:
            what = f"it drops what is used least ({one.policy}); more memory keeps more responses"
            hints.append(f"Redis uses {size(one.used_memory)} of {size(one.max_memory)}: {what}.")
    return hints
