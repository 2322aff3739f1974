"""For how long an answer would be stored, by the rules that the cache itself asks."""

from functools import lru_cache

from msgspec.structs import replace

from maxage.cache.target import Target
from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.message import Headers, Request, Response
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.storing_memo import memoised_may_store
from maxage.rfc9111.verdicts import MayStore
from maxage.simulate.logged import LoggedRequest
from maxage.simulate.store_model import Stay


def stays_of(
    target: Target,
    logged: LoggedRequest,
    lifetimes: tuple[float, ...],
    *,
    carries: bool,
    has_routes: bool,
) -> tuple[tuple[Stay, ...] | None, str]:
    """Return the stays of an answer, the first one as it is set up now.

    Args:
        target: of the request.
        logged: the request, and its answer.
        lifetimes: seconds, in place of the configured ones.
        carries: whether it carried credentials.
        has_routes: whether the application's routes are known.

    Returns:
        None: the answer is not stored under any lifetime. And why it is not stored now, in the
        words of Cache-Status; empty: it is.
    """
    route, restriction = target.route, target.terms.restriction
    is_known = (route is not None and not route.opaque) or not has_routes
    rules = target.rules if is_known else target.terms.explicit_rules
    stays, reason = _stays(
        rules,
        (restriction is None and is_known) or rules.lifetime_is_declared,
        logged.method,
        logged.status,
        carries,
        logged.response_headers,
        lifetimes,
    )
    return stays, restriction if reason == "no-lifetime" and restriction else reason


@lru_cache(maxsize=4096)
def _stays(  # noqa: PLR0917 - what the rules depend on
    rules: Policy,
    may_vary: bool,
    method: str,
    status: int,
    carries: bool,
    headers: tuple[tuple[bytes, bytes], ...],
    lifetimes: tuple[float, ...],
) -> tuple[tuple[Stay, ...] | None, str]:
    request = Request(method=method, carries_credentials=carries)
    response = Response(status=status, headers=Headers(headers))
    policies = [rules] + [
        replace(rules, default_lifetime=seconds) if may_vary else rules for seconds in lifetimes
    ]
    stays: list[Stay] = []
    reason = ""
    for policy in policies:
        verdict = memoised_may_store(
            Arrival(
                request=request, response=response, request_time=0.0, response_time=0.0,
                policy=policy,
            )
        )  # fmt: skip
        if isinstance(verdict, MayStore):
            stored = verdict.stored
            usable = 0.0 if stored.always_validate else stored.freshness_lifetime
            stays.append(Stay(usable, stored.stale_while_revalidate))
        else:
            stays.append(Stay(0.0))
            reason = reason or (verdict.reason if not stays[1:] else "")
    return (tuple(stays) if any(stay.fresh > 0 for stay in stays) else None), reason
