"""Inputs of a request that are not in its key, as numbers that tell whether two are equal."""

from fnmatch import translate
from re import compile as compiled
from typing import Final

from maxage.asgi.types import Scope
from maxage.audit.inputs import HARMLESS, OF_THE_CACHE
from maxage.rfc9111.policy import Policy

_HARMLESS: Final = compiled("|".join(map(translate, HARMLESS)))


def inputs_of(scope: Scope, rules: Policy) -> dict[str, int]:
    """Return the hash of each input outside of the key, by the name that an audit gives it."""
    lines: dict[str, tuple[bytes, ...]] = {}
    for name, value in scope["headers"]:
        lower = bytes(name).lower()
        if lower not in rules.keyed_fields:
            text = lower.decode("latin-1")
            lines[text] = (*lines.get(text, ()), bytes(value))
    found = {
        f"header:{name}": hash(values)
        for name, values in lines.items()
        if name not in OF_THE_CACHE and not _HARMLESS.match(f"header:{name}")
    }
    client = scope.get("client")
    return found if client is None else found | {"client": hash(client[0])}


def differing(before: dict[str, int], now: dict[str, int]) -> list[str]:
    """Return the inputs whose values differ between two requests, or that one of them lacks."""
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]
