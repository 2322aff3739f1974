"""Admission: whether a request may be answered from the store, and what its key is made of."""

import inspect
import logging
from itertools import chain
from typing import Any, Final

from starlette.requests import Request as StarletteRequest

from maxage.asgi.overrides import OVERRIDES
from maxage.asgi.types import Scope
from maxage.cache.key import (
    CROSS_ORIGIN,
    FORWARDED_HEADERS,
    FRAGMENT_HEADERS,
    join_injective,
)
from maxage.cache.target import Target
from maxage.observe.words import Bypass
from maxage.reads.known_request import Plain
from maxage.reads.responder import ReadResponder
from maxage.rfc9111.message import Headers, Request
from maxage.routing.control import VaryBy

logger = logging.getLogger("maxage")

_METADATA: Final = (b"content-type", b"content-encoding", b"content-language")
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


async def admit(reading: ReadResponder) -> Bypass | None:
    """Find target and request of a GET, HEAD or QUERY; return the reason to bypass the cache.

    None: the request is admitted.
    """
    return find_target(reading, None) or await identify(reading)


def find_target(reading: ReadResponder, plain: Plain | None) -> Bypass | None:
    """Find the target of a request; return the reason in its URL or fields to bypass the cache.

    Of a plain request (`FastPath.plain`) no field is looked at. Its `Request` is found too, where
    the URL alone distinguishes it.
    """
    service, headers, scope = reading.service, reading.headers, reading.scope
    limit = service.most_key_bytes
    raw_path, query = scope.get("raw_path") or b"", scope.get("query_string", b"")
    is_long = len(raw_path) + len(query) > limit
    if is_long or (_are_long(headers, limit) if plain is None else len(plain[0]) > limit):
        return Bypass.LONG_URL
    targets = service.targets
    target = targets.find(scope, headers) if plain is None else targets.at_host(scope, plain[0])
    reading.target = target
    if not target.policy.cache:
        return Bypass.UNCACHED
    if scope["method"] == "HEAD" and not targets.answers_head(scope, headers, target):
        return Bypass.HEAD
    if plain is None:
        return _reason_in_fields(reading)
    terms, wishes = target.terms, plain[1]
    if terms.is_plain:
        reading.request = Request(
            method=scope["method"],
            headers=headers,
            carries_credentials=terms.checks_credentials,
            key_parts=plain[2],
            is_bare=wishes is None or wishes[0] is None,
        )
    return None


def _are_long(headers: Headers, limit: int) -> bool:
    """Return whether the fields of the URL's key are longer than `CACHE_MAX_KEY_BYTES`."""
    size = sum(map(len, headers.get_all(b"host")))
    if headers.has_any(FORWARDED_HEADERS):
        size += sum(len(v) for name in FORWARDED_HEADERS for v in headers.get_all(name))
    return size > limit


def _reason_in_fields(reading: ReadResponder) -> Bypass | None:
    """Return the reason in the fields to bypass the cache; a plain request has none.

    A request is plain without the headers that `fast_path` calls weighty: a reason in another one
    would never be looked for.
    """
    headers = reading.headers
    if headers.has_any(OVERRIDES):
        return Bypass.OVERRIDE
    if (
        reading.content is None
        and headers.has_any(_FRAMING)
        and (b"transfer-encoding" in headers or headers.get_all(b"content-length") != (b"0",))
    ):
        return Bypass.BODY
    return Bypass.HOST if len(headers.get_all(b"host")) > 1 else None


async def identify(reading: ReadResponder) -> Bypass | None:
    """Find the request of a target by its fields; return the reason to bypass the cache."""
    service, headers, scope = reading.service, reading.headers, reading.scope
    target = reading.target
    try:
        vary_by = target.policy.vary_by
        parts = () if vary_by is None else await _identity_parts(scope, vary_by)
        if b"origin" in headers:
            parts = (*CROSS_ORIGIN, *parts)
    except Exception as error:  # noqa: BLE001 - vary_by is the application's own code
        # The application's own checks answer a request that vary_by refuses.
        logger.debug("vary_by refused a request: %s", type(error).__name__)
        return Bypass.VARY_BY
    reading.request = Request(
        method=scope["method"],
        headers=headers,
        carries_credentials=target.policy.vary_by is None
        and service.identification.has_credentials(scope, headers, target),
        key_parts=parts if reading.content is None else (*_content_parts(reading), *parts),
        declared=_declared_parts(headers, keyed_names(headers, target)),
    )
    return None


def keyed_names(headers: Headers, target: Target) -> tuple[bytes, ...]:
    """Return the names of fields whose lines are parts of the key: declared, or of fragments."""
    declared = target.rules.keyed_fields
    if headers.has_any(FRAGMENT_HEADERS):
        return tuple(sorted(FRAGMENT_HEADERS.union(declared)))
    return declared


def _declared_parts(headers: Headers, names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return name and lines of each of these fields that the request has."""
    # A handler may tell two lines from one line with both values.
    present = [(name, join_injective(headers.get_all(name))) for name in names if name in headers]
    return tuple(chain.from_iterable(present))


async def _identity_parts(scope: Scope, vary_by: VaryBy) -> tuple[bytes, ...]:
    """Return the parts of the key that stand for what `vary_by` returns."""
    returned = vary_by(StarletteRequest(scope))
    # A callable may return anything, whatever its annotation promises.
    identity: Any = await returned if inspect.isawaitable(returned) else returned
    if not isinstance(identity, (str, int)):
        raise TypeError(f"vary_by gave {type(identity).__name__}; it takes str or int")
    kind = type(identity).__name__.encode()
    return (b"vary_by", kind, str(identity).encode("utf-8", "surrogatepass"))


def _content_parts(reading: ReadResponder) -> tuple[bytes, ...]:
    """Return the parts of the key that stand for the content of a QUERY."""
    # RFC 10008 section 2.7: "The cache key for a QUERY request MUST incorporate the request
    # content and related metadata." Nothing is normalised: content in another spelling has
    # another key.
    values = (reading.headers.combined(name) for name in _METADATA)
    metadata = (b"-" if value is None else b"+" + value for value in values)
    return (b"QUERY", *metadata, reading.content or b"")
