"""Inputs of a request that are not in its URL, as hashes: equal inputs have equal hashes."""

from collections.abc import Collection
from typing import Final

from msgspec import Struct

from maxage.asgi.types import Scope
from maxage.audit.inputs import HARMLESS, OF_THE_CACHE
from maxage.rfc9111.credentials import named_like

_HARMLESS: Final = named_like(HARMLESS)
_SOON: Final = 0.05
"""Seconds between the cache's note of a call and ours, at most."""


class Called(Struct, frozen=True):
    """One call of the application."""

    at: float
    """POSIX seconds."""
    inputs: dict[str, int]
    """The hash of each input, by the name that an audit gives it."""

    def filled(self, request_time: float) -> bool:
        """Return whether a response that was asked for then is the answer to this call."""
        return 0 <= self.at - request_time < _SOON


def url_of(scope: Scope) -> tuple[bytes, ...]:
    """Return the parts that name the URL of a request."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    return host, path, scope.get("query_string", b"")


def inputs_of(scope: Scope) -> dict[str, int]:
    """Return the hash of each input of a request that may change its answer."""
    lines: dict[str, tuple[bytes, ...]] = {}
    for name, value in scope["headers"]:
        text = bytes(name).lower().decode("latin-1")
        lines[text] = (*lines.get(text, ()), bytes(value))
    found = {
        f"header:{name}": hash(values)
        for name, values in lines.items()
        if name not in OF_THE_CACHE and not _HARMLESS.fullmatch(f"header:{name}")
    }
    client = scope.get("client")
    return found if client is None else found | {"client": hash(client[0])}


def differing(before: dict[str, int], now: dict[str, int], keyed: Collection[bytes]) -> list[str]:
    """Return the inputs outside of the key that differ between two requests."""
    in_key = {f"header:{name.decode('latin-1')}" for name in keyed}
    names = [name for name in {**before, **now} if name not in in_key]
    return [name for name in names if before.get(name) != now.get(name)]
