"""Explain a GET, HEAD or QUERY, by the code that answers it: admission, lookup, rules."""

import asyncio
from dataclasses import replace
from typing import Any, Final

from maxage.asgi.service import Service
from maxage.asgi.types import Message, Scope
from maxage.cache import storing
from maxage.cache.cache import Cache
from maxage.cache.fill import Fill
from maxage.cache.key import FRAGMENT_HEADERS, is_variant, list_key
from maxage.cache.lookup import selected_key
from maxage.cache.storing import Answer
from maxage.cache.target import Target
from maxage.errors import StoreUnavailableError
from maxage.explain.advice import changes_for, sentence_for
from maxage.explain.explanation import Explanation, GroupState, Part, Prospect, StoredShown
from maxage.explain.policy import policy_parts, route_shown
from maxage.explain.read_only import ReadOnlyStore
from maxage.reads.admission import admit, keyed_names
from maxage.reads.get import GetResponder
from maxage.rfc9111.age import current_age
from maxage.rfc9111.arrival import Arrival
from maxage.rfc9111.decisions import Decision, OnlyIfCached, Serve
from maxage.rfc9111.message import Headers, Response
from maxage.store.base import Store
from maxage.store.entry import Entry

_JSON: Final = (b"content-type", b"application/json")
_PROSPECTS: Final[tuple[tuple[str, tuple[tuple[bytes, bytes], ...]], ...]] = (
    ("a 200 without Cache-Control", ()),
    ("a 200 with Cache-Control: max-age=60", ((b"cache-control", b"max-age=60"),)),
    ("a 200 with Cache-Control: public, max-age=60", ((b"cache-control", b"public, max-age=60"),)),
)
"""Responses that the rules are asked about, since the application is not."""


async def explain_read(service: Service, store: Store, scope: dict[str, Any]) -> Explanation:
    """Explain a request that may be answered from the store."""
    shown = ReadOnlyStore(store)
    cache = Cache(service.settings, shown)
    reading = GetResponder(service, cache, scope, _no_body, _nowhere)
    reading.content = b"" if scope["method"] == "QUERY" else None
    reason = await admit(reading)
    known = _of_target(reading, getattr(reading, "target", None))
    if reason is None:
        try:
            known = await _looked_up(reading, shown, known)
        except StoreUnavailableError as error:
            because = f"{sentence_for('store-away', known)} ({error})"
            known = replace(known, reason="store-away", because=because)
    else:
        known = replace(known, reason=reason, because=sentence_for(reason, known))
    return replace(known, changes=changes_for(known, service.settings, scope))


def _of_target(reading: GetResponder, target: Target | None) -> Explanation:
    """Return the facts that are known before a lookup; a URL that is too long has no target."""
    known = Explanation(
        request=request_line(reading.scope), outcome="bypass", reason="", because="", route=None
    )
    if target is None:
        return known
    return replace(
        known,
        route=route_shown(target.route),
        policy=policy_parts(target.terms, reading.service.settings),
        groups=tuple(GroupState(group=g, stored=None, current=None) for g in target.groups),
    )


async def _looked_up(
    reading: GetResponder, shown: ReadOnlyStore, known: Explanation
) -> Explanation:
    """Look the request up as the middleware does, and ask the rules."""
    cache, target = reading.cache, reading.target
    key = target.key(reading.request.all_parts())
    reading.found = await cache.lookup(target, key, reading.headers)
    entry = await _present(cache, reading, key)
    variants = await _count_variants(cache, reading, key)
    decision, carries = reading.decide(), reading.request.carries_credentials
    known = replace(
        known,
        outcome="hit" if isinstance(decision, Serve) else "miss",
        reason=_reason(decision),
        key=key.decode(),
        key_parts=_key_parts(reading),
        credentials=(
            reading.service.identification.kind_in(reading.scope, reading.headers)
            if carries
            else ""
        ),
        groups=_groups(reading, entry, shown),
        stored=_stored(cache, reading, entry, variants),
        prospects=tuple(_prospect(cache, reading, *one) for one in _PROSPECTS),
        last_refusal=b", ".join(target.unstorable).decode("latin-1"),
    )
    return replace(known, because=sentence_for(known.reason, known))


def request_line(scope: Scope) -> str:
    """Return method and URL of a request."""
    host = next((v for name, v in scope["headers"] if name == b"host"), b"").decode("latin-1")
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    path = (scope["raw_path"] + query).decode("latin-1")
    return f"{scope['method']} {scope['scheme']}://{host}{path}"


def _reason(decision: Decision) -> str:
    if isinstance(decision, Serve):
        return "hit-stale" if decision.stale else "hit-refresh" if decision.refresh else "hit"
    return "only-if-cached" if isinstance(decision, OnlyIfCached) else decision.reason


async def _present(cache: Cache, reading: GetResponder, key: bytes) -> Entry | None:
    """Return the response under the request's key, valid or not."""
    if reading.found.entry is not None:
        return reading.found.entry
    chosen = selected_key(key, reading.target, reading.headers)
    reply = await cache.store.read((chosen, key), ())
    found = [
        cache.pending_writes.value(name, value, None)
        for name, value in zip((chosen, key), reply.values, strict=True)
    ]
    return next((one for one in found if isinstance(one, Entry)), None)


async def _count_variants(cache: Cache, reading: GetResponder, key: bytes) -> int:
    """Return how many variants are stored under the request's key."""
    listed = await cache.store.enlisted(list_key(reading.target.key(reading.request.key_parts)))
    return sum(is_variant(one, key) for one in listed)


def _groups(
    reading: GetResponder, entry: Entry | None, shown: ReadOnlyStore
) -> tuple[GroupState, ...]:
    stored = dict(entry.tokens) if entry is not None else {}
    names = dict.fromkeys((*reading.target.all_groups, *stored))
    current = {g: t for g, t in reading.found.tokens.items() if g not in shown.missing}
    return tuple(
        GroupState(group=name, stored=_text(stored.get(name)), current=_text(current.get(name)))
        for name in names
    )


def _text(token: bytes | None) -> str | None:
    return None if token is None else token.decode("ascii", "replace")


def _stored(
    cache: Cache, reading: GetResponder, entry: Entry | None, variants: int
) -> StoredShown | None:
    if entry is None:
        return None
    stored, now = entry.stored, cache.clock()
    age = current_age(stored, now=now)
    soft = entry.is_softened(reading.found.tokens, reading.target.groups)
    return StoredShown(
        key=entry.key.decode(),
        status=stored.status,
        headers=tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in stored.headers.raw),
        body_bytes=stored.length,
        age=age,
        lifetime=stored.freshness_lifetime,
        ttl=stored.freshness_lifetime - age,
        lifetime_from="policy" if stored.lifetime_is_ours else "response",
        vary=tuple(name.decode("latin-1") for name in stored.vary_names),
        variants=variants,
        valid=reading.found.entry is not None or soft,
    )


def _prospect(
    cache: Cache, reading: GetResponder, said: str, headers: tuple[tuple[bytes, bytes], ...]
) -> Prospect:
    """Ask the rules whether a response would be stored, if the application gave it."""
    target = reading.target
    is_known = target.route is not None and not target.route.opaque
    now = cache.clock()
    arrival = Arrival(
        request=reading.request,
        response=Response(status=200, headers=Headers((_JSON, *headers))),
        request_time=now,
        response_time=now,
        policy=target.rules if is_known else target.terms.explicit_rules,
    )
    answer = Answer(target=target, found=reading.found, arrival=arrival)
    verdict = storing.consider(cache, answer)
    if isinstance(verdict, Fill):
        seconds = verdict.verdict.stored.freshness_lifetime
        return Prospect(response=said, stored_for=seconds, reason="")
    return Prospect(response=said, stored_for=None, reason=str(verdict.reason))


def _key_parts(reading: GetResponder) -> tuple[Part, ...]:
    """Return the parts of the key besides the URL."""
    parts, shown = list(reading.request.key_parts), list[Part]()
    if parts[:1] == [b"ORIGIN"]:
        shown.append(Part(name="Origin", value="present", source="the request has an Origin"))
        parts = parts[1:]
    while parts:
        name = parts.pop(0).decode("latin-1")
        if name == "vary_by":
            kind, value = (parts.pop(0).decode(), parts.pop(0).decode("utf-8", "replace"))
            shown.append(Part(name=name, value=f"{value} ({kind})", source="vary_by of the route"))
        elif name == "QUERY":
            shown.append(Part(name="content", value="", source="the content of a QUERY"))
            break
    for field in keyed_names(reading.headers, reading.target):
        value = b", ".join(reading.headers.get_all(field)).decode("latin-1")
        source = "a declared cookie" if field == b"cookie" else "a declared header"
        if field in FRAGMENT_HEADERS:
            source = "a header that asks for a fragment"
        if field in reading.headers:
            shown.append(Part(name=field.decode("latin-1"), value=value, source=source))
    return tuple(shown)


async def _no_body() -> Message:
    await asyncio.sleep(0)
    return {"type": "http.request", "body": b"", "more_body": False}


async def _nowhere(message: Message) -> None:
    del message
    await asyncio.sleep(0)
