"""`maxage stats`: the figures of all workers together, and of the store."""

from dataclasses import asdict

from maxage.cli.output import AsJson, complain, print_json, print_table, print_text
from maxage.cli.server import Namespace, OfApplication, RedisUrl, settings_for
from maxage.insight.overview import Overview, read_overview
from maxage.insight.server_facts import ServerFacts, server_facts
from maxage.insight.units import counted, duration, share, size
from maxage.redis_store.observer import Observer

NO_WORKER = (
    "no worker has published its figures within 20 s; set CACHE_INSIGHT=true for the application, "
    "with the same REDIS_URL and CACHE_NAMESPACE. If it is set, maxage doctor tells whether "
    "Redis takes writes."
)


def stats(
    *,
    redis_url: RedisUrl = None,
    namespace: Namespace = None,
    app: OfApplication = None,
    as_json: AsJson = False,
) -> int:
    """Show requests by outcome and route, latency, purges and the store, of all workers.

    Exit code 1: no worker publishes its figures (CACHE_INSIGHT).
    """
    settings = settings_for(redis_url, namespace, app)
    told = read_overview(settings)
    servers = server_facts(Observer(settings))
    if as_json:
        print_json(told.as_dict() | {"servers": [asdict(one) for one in servers]})
    else:
        if told.workers:
            _print_workers(told)
        _print_servers(servers)
        if not told.workers:
            complain(NO_WORKER)
    return int(not told.workers)


def _print_workers(told: Overview) -> None:
    totals = told.totals
    workers, requests = counted(len(told.workers), "worker"), counted(totals.requests, "request")
    print_text(f"{workers}, {requests} since they began")
    outcomes = sorted(totals.outcomes.items(), key=lambda one: -one[1])
    rows = [(word, str(count), share(count, totals.requests)) for word, count in outcomes]
    print_table(("outcome", "requests", "share"), rows, right=2)
    print_table(
        ("route", "requests", "hits", "calls", "per call", "saved", "stored"),
        (
            (
                name,
                str(one.requests),
                share(one.hits, one.requests),
                str(one.calls),
                duration(one.seconds / one.calls) if one.calls else "-",
                duration(one.seconds_saved) if one.calls else "-",
                size(one.stored_bytes),
            )
            for name, one in told.routes.items()
            if one.requests or one.calls
        ),
        right=6,
    )
    _print_reasons("not stored because of", totals.not_stored)
    _print_reasons("bypassed because of", totals.bypasses)
    _print_reasons("purges by", told.purges)
    if told.timed:
        print_text(f"The cache adds {duration(told.added / told.timed)} to a request, on average.")
    for count, said in (
        (told.owed_purges, "purges are owed: nothing stored is served until they are made"),
        (told.breakers_open, "circuit breakers are open: those workers serve uncached"),
        (told.unconfirmed_purges, "purges were not confirmed at first"),
        (told.unreadable, "values could not be read"),
    ):
        if count:
            print_text(f"{count} {said}.")


def _print_reasons(title: str, counts: dict[str, int]) -> None:
    if counts:
        sorted_counts = sorted(counts.items(), key=lambda one: -one[1])
        print_table((title, "count"), ((word, str(n)) for word, n in sorted_counts), right=1)


def _print_servers(servers: list[ServerFacts]) -> None:
    rows = (
        (
            f"{one.product} {one.version} ({one.role})",
            str(one.keys),
            size(one.used_memory),
            size(one.max_memory) if one.max_memory else "no limit",
            one.policy,
            str(one.evicted_keys),
        )
        for one in servers
    )
    print_table(("server", "keys", "memory", "limit", "policy", "evicted"), rows)
