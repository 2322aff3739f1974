"""Answers: the cache-related headers that a handler sets on its responses."""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from starlette.responses import RedirectResponse

from maxage.lint.code.reached import name_of
from maxage.lint.code.scope import Scope
from maxage.lint.code.values import plain_class

_FORBIDS: Final = re.compile(r"(?i)\bno-store\b|\bno-cache\b|\bprivate\b|(?<!-)max-age=0\b")
_SHARES: Final = re.compile(r"(?i)\bpublic\b|\bs-maxage\b|\bmust-revalidate\b")
_CONTROLS: Final = frozenset({"cache-control", "cdn-cache-control", "expires"})
_STREAMS: Final = re.compile(r"EventSource|ServerSentEvent|text/event-stream")
_SETS: Final = frozenset({"append", "setdefault"})


class Answers(NamedTuple):
    """The known facts about the responses of a handler."""

    forbidden: bool
    """Whether they are never stored: `no-store`, a cookie, an event stream, or a redirect."""
    streams: bool
    """Whether they are event streams."""
    lifetime: bool
    """Whether they state a lifetime themselves."""
    shared: bool
    """Whether they say that they are for all clients."""
    varied: frozenset[str] | None
    """The headers that their `Vary` names, in lower case; None: some that are not known."""


def answers(endpoint: Iterable[Scope], dependencies: Iterable[Scope] = ()) -> Answers:
    """Return the facts about the responses of these functions."""
    own = list(endpoint)
    seen = [*own, *dependencies]
    controls = [text for scope in seen for text in _controls(scope)]
    parts = [node for scope in seen for node in scope.walk()]
    calls = {name_of(node.func) for node in parts if isinstance(node, ast.Call)}
    texts = [str(node.value) for node in parts if isinstance(node, ast.Constant)]
    streams = any(map(_STREAMS.search, [*texts, *calls]))
    return Answers(
        forbidden=streams
        or any(map(_FORBIDS.search, controls))
        or "set_cookie" in calls
        or any(map(_only_redirects, own[:1])),
        streams=streams,
        lifetime=bool(controls),
        shared=any(map(_SHARES.search, controls)),
        varied=_varied(seen),
    )


def _controls(scope: Scope) -> Iterator[str]:
    """Yield the values of the fields that control caches; the source of one that is not known."""
    for name, value in _fields(scope):
        if name in _CONTROLS:
            text = scope.value(value).thing
            yield text if isinstance(text, str) else ast.unparse(value)
    for node in scope.walk():
        if isinstance(node, ast.Name | ast.Attribute):
            yield from _shared_control(scope.value(node).thing)


def _shared_control(thing: Any) -> Iterator[str]:
    """Yield the fields that control caches in a dictionary that several handlers share."""
    if isinstance(thing, dict):
        for name, value in thing.items():  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] -- of any types
            if str(name).lower() in _CONTROLS:  # pyright: ignore[reportUnknownArgumentType] -- as above
                yield str(value)  # pyright: ignore[reportUnknownArgumentType] -- as above


def _only_redirects(scope: Scope) -> bool:
    annotated = plain_class(scope.function.annotation("return"))
    if annotated is not None and issubclass(annotated, RedirectResponse):
        return True
    returned = [scope.value(node.value) for node in scope.walk() if isinstance(node, ast.Return)]
    return bool(returned) and all(
        value.kind == "instance" and issubclass(value.thing, RedirectResponse) for value in returned
    )


def _varied(scopes: Iterable[Scope]) -> frozenset[str] | None:
    named = set[str]()
    for scope in scopes:
        for name, value in _fields(scope):
            if name == "vary":
                text = scope.value(value).thing
                if not isinstance(text, str):
                    return None
                named |= {one.strip().lower() for one in text.split(",")}
    return None if "*" in named else frozenset(named)


def _fields(scope: Scope) -> Iterator[tuple[str, ast.expr]]:
    """Yield the header fields that a function sets, by their names in lower case."""
    for node in scope.walk():
        match node:
            case ast.Assign(targets=[ast.Subscript(slice=key)], value=value):
                yield _name(key), value
            case ast.Dict(keys=keys, values=values):
                yield from ((_name(key), value) for key, value in zip(keys, values, strict=True))
            case ast.Call(func=ast.Attribute(attr="add_vary_header"), args=[value, *_]):
                yield "vary", value
            case ast.Call(func=ast.Attribute(attr=name), args=[key, value, *_]) if name in _SETS:
                yield _name(key), value
            case _:
                pass


def _name(key: ast.expr | None) -> str:
    return str(key.value).lower() if isinstance(key, ast.Constant) else ""
