"""Sentences: the meaning of each reason, and the change that mends it."""

from collections.abc import Iterator
from typing import Any, Final

from maxage.cache.machine import is_loopback
from maxage.explain.explanation import Explanation
from maxage.explain.request import DEFAULT_HOST
from maxage.observe.words import Bypass, Outcome, Reason
from maxage.settings import CacheSettings

_SENTENCES: Final = {
    "hit": "A fresh response is stored, and all its tokens are current.",
    "hit-stale": "A stale response is stored that may still answer; it is refreshed meanwhile.",
    "hit-refresh": "A stored response answers once more, and is refreshed in the background.",
    "uri-miss": "Nothing is stored under this key.",
    "vary-miss": "The URL is stored, but no variant fits the request's headers.",
    "stale": "The stored response is stale, or has to be validated: the application is asked.",
    "request": "The request's own headers ask for the application's answer.",
    "partial": "Only a part of the response is stored.",
    "bypass": "A response is stored, but must not answer a request with credentials.",
    "miss": "The stored response does not fit the request.",
    "only-if-cached": "The client accepts a stored response only, and none fits: 504.",
    "off": "Caching is switched off.",
    "safe": "Requests with this method are passed on: nothing is stored, nothing purged.",
} | {word.value: word.text for word in Bypass}
_REASONS: Final = {word.value: word.text for word in Reason}
_OUTCOMES: Final = {word.value: word.text for word in Outcome}
_DETAILS: Final = _REASONS | {word.value: word.text for word in Bypass}
_PERSONAL: Final = (
    "If the response is the same for all users, let it say Cache-Control: public; if not, give the "
    "route vary_by=, which runs at every hit."
)
_CHANGES: Final = {
    "off": "Set USE_REDIS_CACHE=true.",
    "uncached": "Take @uncached or Rule(cache=False) away, to cache the responses.",
    "override": "Let a proxy remove the header, or the client not send it.",
    "body": "Send GET without a body.",
    "host": "Send one Host header.",
    "head": "Let the route answer HEAD too: methods=['GET', 'HEAD'].",
    "long-url": "Shorten the URL, or raise CACHE_MAX_KEY_BYTES.",
    "long-content": "Shorten the content, or raise CACHE_MAX_QUERY_BYTES.",
    "vary_by": "See the application's log at level DEBUG for the error, and try the request with "
    "the credentials of a user.",
    "store-away": "maxage doctor tells what is wrong with the server.",
    "vary-miss": "The next such request is a hit. Where variants are many, let the response's Vary "
    "name fewer headers.",
    "request": "Without Cache-Control and Pragma of its own the request could be a hit; "
    "CACHE_OBEY_REQUEST_DIRECTIVES=false ignores them.",
}
_NOT_STORED: Final[dict[str, str]] = {
    Reason.NO_LIFETIME: "State a lifetime: @cached(ttl=...) on the endpoint, Rule(..., ttl=...), "
    "or Cache-Control: max-age=... in the response.",
    Reason.CREDENTIALS: _PERSONAL,
    Reason.COOKIE: f"{_PERSONAL} List cookies that do not change it in CACHE_IGNORED_COOKIES.",
    Reason.SECURITY: _PERSONAL,
    Reason.REQUEST_NO_STORE: "Send the request without Cache-Control: no-store.",
}


def advice_for(forwarded: str, detail: str) -> tuple[str, ...]:
    """Return the meaning of the words `fwd` and `detail` of Cache-Status, and their mend."""
    outcome = "" if detail in _DETAILS and forwarded == "bypass" else forwarded
    said = {outcome: _OUTCOMES.get(outcome, ""), detail: _DETAILS.get(detail, "")}
    changes = (_CHANGES.get(forwarded), _CHANGES.get(detail), _NOT_STORED.get(detail))
    meanings = [f"{word}: {text}" for word, text in said.items() if text]
    return (*meanings, *(change for change in changes if change))


def sentence_for(reason: str, known: Explanation) -> str:
    """Return a reason in one sentence."""
    stored = known.stored
    if reason == "uri-miss" and stored is not None and not stored.valid:
        purged = [g.group for g in known.groups if g.stored is not None and not g.fits]
        if purged:
            return f"A response is stored, but was purged since, by {', '.join(purged)}."
        return "A response is stored, but not in all groups that it needs now."
    return _SENTENCES.get(reason, f"The reason is {reason}.")


def changes_for(
    known: Explanation, settings: CacheSettings, scope: dict[str, Any]
) -> tuple[str, ...]:
    """Return the changes that would make the next such request a hit, and other hints."""
    return tuple(dict.fromkeys(_changes(known, settings, scope)))


def _changes(known: Explanation, settings: CacheSettings, scope: dict[str, Any]) -> Iterator[str]:
    if known.reason == "uncached":
        causes = [part.source for part in known.policy if part.name == "cache"]
        yield f"It is forbidden by: {', '.join(causes)}. Take that away to cache the responses."
    elif known.reason in _CHANGES:
        yield _CHANGES[known.reason]
    if known.outcome == "miss":
        yield from _storing(known)
    if known.reason == "uri-miss" and known.stored is None:
        yield from _other_keys(scope, settings)


def _storing(known: Explanation) -> Iterator[str]:
    plain = known.prospects[0] if known.prospects else None
    if plain is None:
        return
    if known.last_refusal:
        yield f"The last response said Cache-Control: {known.last_refusal}, and was not stored."
        return
    if plain.stored_for is not None:
        if known.reason == "uri-miss":
            yield (
                "Nothing has to change: the application's answer is stored, unless its own headers "
                "forbid it, and the next such request is a hit."
            )
        return
    reason = plain.reason
    if reason == "credentials" and known.credentials:
        reason = known.credentials
    yield _NOT_STORED.get(reason, f"It would not be stored. {_REASONS.get(reason, reason)}")


def _other_keys(scope: dict[str, Any], settings: CacheSettings) -> Iterator[str]:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    if settings.redis_url is None:
        yield "The embedded store is another one in each process: only the server sees its own."
    elif host == DEFAULT_HOST.encode():
        yield (
            "Scheme and host are part of the key, and none was named: give the URL as clients "
            "send it, such as 'GET https://example.org/items'."
        )
    elif is_loopback(host):
        yield "The keys of loopback hosts name the machine: explain it where the server runs."
