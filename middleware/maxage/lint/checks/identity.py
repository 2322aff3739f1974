"""Identity: credentials, sessions and other inputs of a request that are not in the key."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from maxage.audit.inputs import OF_THE_CACHE
from maxage.lint.application import Application, Route
from maxage.lint.code.function import function_of
from maxage.lint.code.inputs import Input, inputs, stored_state
from maxage.lint.code.reached import reached
from maxage.lint.codes import Code
from maxage.lint.finding import Finding
from maxage.rfc9111.credentials import named_like
from maxage.settings import CacheSettings

_KEYED: Final = OF_THE_CACHE | {"origin"}
"""Headers that are in the key, or that the cache answers itself."""
_BY_KEY: Final = (
    "Give it vary_by=, which authenticates and names the user at every hit, or say that it is "
    "never cached: @uncached."
)


def check_identity(app: Application) -> Iterator[Finding]:
    """Yield the reads that depend on something of their requests which the key does not hold."""
    outer = frozenset(_set_by_layers(app))
    for read in app.reads:
        policy = read.terms.policy
        if not policy.cache or policy.vary_by is not None or read.answers.forbidden:
            continue
        if read.info.has_security:
            if policy.default_lifetime > 0 and not read.answers.shared:
                yield from _security(read)
        elif read.is_stored:
            found = [*inputs(read.scopes), *inputs(read.dependency_scopes)]
            own = stored_state((*read.scopes, *read.dependency_scopes))
            state = outer - own
            yield from _by_hand(read, found, app.settings)
            yield from _identity(read, found, app.settings)
            yield from _unkeyed(read, found, app.settings, state)


def _is_note(read: Route) -> bool:
    """Return whether a read without vary_by is as it should be: no one has asked for its hits."""
    return not read.terms.policy.lifetime_is_declared


def _security(read: Route) -> Iterator[Finding]:
    if not _is_note(read):
        reason = "It checks credentials, and has no vary_by: its ttl= has no effect."
    else:
        reason = (
            "It checks credentials, and has no vary_by: no response is stored, since a hit would "
            "skip the check."
        )
    yield from read.report(Code.SECURITY, reason, _BY_KEY, is_note=_is_note(read))


def _by_hand(read: Route, found: Iterable[Input], settings: CacheSettings) -> Iterator[Finding]:
    """Yield a read that looks for credentials in a header itself, or declares such a header."""
    names = _credential_headers(settings)
    declared = names.intersection(name.decode("latin-1") for name in read.info.header_names)
    read_names = [each for each in found if each.kind == "header" and each.name in names]
    place = f"the parameter {min(declared)}" if declared else ""
    place = str(read_names[0].place) if read_names else place
    if place:
        reason = (
            f"It reads credentials, {place}, and has no vary_by: a request with them is never "
            "answered from the store."
        )
        yield from read.report(Code.SECURITY, reason, _BY_KEY, is_note=_is_note(read))


def _credential_headers(settings: CacheSettings) -> set[str]:
    return {name.lower() for name in settings.cache_credential_headers} | {"authorization"}


def _identity(read: Route, found: Iterable[Input], settings: CacheSettings) -> Iterator[Finding]:
    ignored = settings.cache_ignored_cookies
    cookies = [name for name in read.info.cookie_names if not _matches(name, ignored)]
    reads = [
        each
        for each in found
        if each.kind == "identity" or (each.kind == "cookie" and not _matches(each.name, ignored))
    ]
    place = f"the cookie {cookies[0]}" if cookies else ""
    place = "by @requires" if _asks_for_permission(read.info.endpoint) else place
    place = str(reads[0].place) if reads else place
    if place:
        reason = (
            f"It reads who asks, {place}, and has no vary_by: a request with a session, a user or "
            "cookies is never answered from the store."
        )
        yield from read.report(Code.SESSION, reason, _BY_KEY, is_note=_is_note(read))


def _asks_for_permission(endpoint: Any) -> bool:
    """Return whether Starlette's `@requires` stands around an endpoint."""
    while endpoint is not None:
        if getattr(endpoint, "__globals__", {}).get("__name__") == "starlette.authentication":
            return True
        endpoint = getattr(endpoint, "__wrapped__", None)
    return False


def _unkeyed(
    read: Route, found: Iterable[Input], settings: CacheSettings, state: frozenset[str]
) -> Iterator[Finding]:
    """Yield a read whose response one request may make for all others."""
    traced = {name.lower() for name in settings.cache_exchange_headers}
    known = _KEYED | _credential_headers(settings) | traced | {"cookie"}
    known |= {name.decode("latin-1") for name in read.info.header_names}
    varied = read.answers.varied
    for each in found:
        is_unkeyed = (
            each.kind == "client"
            or (each.kind == "state" and each.name in state)
            or (each.kind == "cookie" and _matches(each.name, settings.cache_ignored_cookies))
            or (each.kind == "header" and each.name not in known
                and varied is not None and each.name not in varied)
        )  # fmt: skip
        if is_unkeyed:
            reason = (
                f"It reads {each.place}, which is not in the key: the response to one client may "
                "be given to all."
            )
            yield from read.report(Code.INPUT, reason, _mend(each))
            return


def _mend(each: Input) -> str:
    if each.kind == "header":
        name = each.name or "..."
        argument = name.replace("-", "_").replace("...", "name")
        return (
            f"Declare it ({argument}: Annotated[str, Header()]), name it in the response's Vary, "
            "give the route vary_by=, or say @uncached."
        )
    return "Give the route vary_by=, or say @uncached."


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a cookie's name is on the list; an unknown one is not."""
    return bool(name and named_like(patterns).fullmatch(name))


def _set_by_layers(app: Application) -> Iterator[str]:
    """Yield the names that layers of the application set in `request.state`."""
    for layer in app.layers:
        functions = [function for call in layer.calls if (function := function_of(call))]
        yield from stored_state(reached(functions))
