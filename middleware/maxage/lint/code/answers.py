"""Answers: what a handler says about its own responses."""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from starlette.responses import RedirectResponse

from maxage.lint.code.reached import name_of
from maxage.lint.code.scope import Scope
from maxage.lint.code.values import plain_class

_FORBIDS: Final = re.compile(
    r"(?i)\bno-store\b|\bno-cache\b|^private\b|[ ,]private\b|(?:^|[^-])max-age=0\b"
)
_STATES: Final = re.compile(r"(?i)\b(?:s-maxage|max-age)=|^expires$")
_STREAMS: Final = re.compile(r"EventSource|ServerSentEvent|text/event-stream")


class Answers(NamedTuple):
    """What is known of the responses of a handler."""

    forbidden: bool
    """Whether they are never stored: `no-store`, a cookie, an event stream, or a redirect."""
    lifetime: bool
    """Whether they state a lifetime themselves."""
    varied: frozenset[str] | None
    """The headers that their `Vary` names, in lower case; None: some that are not known."""


def answers(scopes: Iterable[Scope]) -> Answers:
    """Return what these functions say of their responses."""
    seen = list(scopes)
    texts = [text for scope in seen for text in _texts(scope)]
    calls = {
        name_of(node.func) for scope in seen for node in scope.walk() if isinstance(node, ast.Call)
    }
    return Answers(
        forbidden=any(map(_FORBIDS.search, texts))
        or any(map(_STREAMS.search, [*texts, *calls]))
        or "set_cookie" in calls
        or any(map(_only_redirects, seen[:1])),
        lifetime=any(map(_STATES.search, texts)),
        varied=_varied(seen),
    )


def _texts(scope: Scope) -> Iterator[str]:
    documentation = ast.get_docstring(scope.function.node, clean=False)
    for node in scope.walk():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value != documentation:
                yield node.value
        elif isinstance(node, ast.Name | ast.Attribute):
            value = scope.value(node)
            if value.kind == "object":
                yield from _shared_texts(value.thing)


def _shared_texts(thing: Any) -> Iterator[str]:
    """Yield a text of the module, and the Cache-Control of a dictionary of headers."""
    if isinstance(thing, str):
        yield thing
    elif isinstance(thing, dict):
        for name, value in thing.items():  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] -- of any types
            if str(name).lower() == "cache-control":  # pyright: ignore[reportUnknownArgumentType] -- as above
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
        for value in _vary_values(scope):
            text = scope.value(value).thing
            if not isinstance(text, str):
                return None
            named |= {name.strip().lower() for name in text.split(",")}
    return None if "*" in named else frozenset(named)


def _vary_values(scope: Scope) -> Iterator[ast.expr]:
    for node in scope.walk():
        match node:
            case ast.Assign(targets=[ast.Subscript(slice=key)], value=value) if _is_vary(key):
                yield value
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                yield from (value for key, value in pairs if key is not None and _is_vary(key))
            case ast.Call(func=ast.Attribute(attr="append" | "setdefault"), args=[key, value, *_]):
                if _is_vary(key):
                    yield value
            case ast.Call(func=ast.Attribute(attr="add_vary_header"), args=[value, *_]):
                yield value
            case _:
                pass


def _is_vary(key: ast.expr) -> bool:
    return isinstance(key, ast.Constant) and str(key.value).lower() == "vary"
