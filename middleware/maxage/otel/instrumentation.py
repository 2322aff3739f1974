"""Instrumentation: put spans around lookups and purges, and hand out the metrics.

Functions of the core are replaced by traced ones, so that an application which does not ask for
traces pays nothing.
"""

from typing import Any, Final, cast

from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import TracerProvider

from maxage.cache.cache import Cache
from maxage.invalidation import purge
from maxage.invalidation.purger import Purger
from maxage.otel.instruments import create_instruments
from maxage.otel.spans import SCOPE, Spans, after_a_while
from maxage.typed.operations import Operations

_replaced: Final[list[tuple[Any, str, Any, Any]]] = []
"""Owner, name, former value and traced one of each function that was replaced."""


def instrument(
    *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> None:
    """Trace lookups and purges from now on, and hand out the metrics; a second call does nothing.

    Args:
        tracer_provider: by default the global one; one that is set later is seen within a second.
        meter_provider: by default the global one.
    """
    if _replaced:
        return
    spans, typed = Spans(tracer_provider), cast("Any", Operations)
    _replace_lookup(spans)
    _replace(Purger, "purge", spans.around_purge(Purger.purge))
    _replace(purge, "purge_groups", spans.around_purge_by_hand(purge.purge_groups))
    _replace(purge, "purge_groups_now", spans.around_purge_by_hand_now(purge.purge_groups_now))
    _replace(Operations, "delete_many", spans.around_typed(typed.delete_many))
    _replace(Operations, "change", spans.around_typed(typed.change))
    create_instruments(get_meter(SCOPE, meter_provider=meter_provider))


def uninstrument() -> None:
    """Trace no more; the metrics stay until the process ends."""
    while _replaced:
        owner, name, former, _ = _replaced.pop()
        setattr(owner, name, former)


def _replace_lookup(spans: Spans) -> None:
    """Trace lookups, but for pauses of a second while there is no SDK."""
    cache, untraced = cast("Any", Cache), (Cache.lookup, Cache.begin_lookup)

    def pause() -> None:
        cache.lookup, cache.begin_lookup = untraced
        after_a_while(resume)

    def resume() -> None:
        if any(made is traced for *_, made in _replaced):
            cache.lookup = cache.begin_lookup = traced

    # One for both: a lookup that could be answered at once may be awaited as well.
    traced = spans.around_lookup(Cache.lookup, pause)
    _replace(Cache, "lookup", traced)
    _replace(Cache, "begin_lookup", traced)


def _replace(owner: Any, name: str, made: Any) -> None:
    _replaced.append((owner, name, getattr(owner, name), made))
    setattr(owner, name, made)
