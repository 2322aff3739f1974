"""The primary key of a URL and the key of a variant: injective, and readable with redis-cli."""

import re
from binascii import hexlify
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final, final
from urllib.parse import unquote_plus

FORMAT_VERSION: Final = b"1"
"""Part of every key: entries of another format are never found."""

CROSS_ORIGIN: Final = (b"ORIGIN",)
"""Part of the key of all requests with an Origin. Layers that add `Access-Control-Allow-Origin` to
their responses may add neither that nor `Vary` to other responses."""
FORWARDED_HEADERS: Final = frozenset({
    b"forwarded", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port",
    b"x-forwarded-prefix", b"x-forwarded-scheme", b"x-forwarded-server", b"x-forwarded-ssl",
    b"x-forwarded-path", b"x-scheme", b"x-url-scheme", b"x-host", b"front-end-https",
})  # fmt: skip
"""Headers from which applications build URLs: an answer made for one value is not for another."""

FRAGMENT_HEADERS: Final = frozenset({
    b"hx-request", b"hx-boosted", b"hx-current-url", b"hx-history-restore-request", b"hx-prompt",
    b"hx-target", b"hx-trigger", b"hx-trigger-name", b"turbo-frame", b"x-requested-with",
    b"x-pjax", b"x-pjax-container", b"x-inertia", b"x-inertia-error-bag", b"x-inertia-reset",
    b"x-inertia-version", b"x-inertia-partial-component", b"x-inertia-partial-data",
    b"x-inertia-partial-except", b"x-up-version", b"x-up-target", b"x-up-mode", b"x-up-context",
    b"x-up-fail-target", b"x-up-fail-mode", b"x-up-fail-context", b"x-up-validate",
    b"x-alpine-request", b"x-alpine-target", b"datastar-request",
})  # fmt: skip
"""Headers by which htmx, Turbo, Inertia, Unpoly and their like ask for a fragment of a page, or for
its data. Handlers look at them without declaring them, and most forget Vary."""

READABLE_LENGTH: Final = 160
"""Characters of a URL that its key shows."""
_DIGEST_BYTES: Final = 20
_READABLE: Final = bytes(range(0x21, 0x7F))
_SHOWN_AS_IT_IS: Final = _READABLE.replace(b":", b"")
_UNREADABLE = re.compile(rb"[^\x21-\x7e]+")
_PAIR = rb"[ \t]*(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+=(?:\"[^\"\\;,]*\"|[^\s;,\"]*)[ \t]*)?"
_PLAIN_FORWARDED = re.compile(_PAIR + rb"(?:[;,]" + _PAIR + rb")*")
_FORWARDED_CLIENT = re.compile(rb"(?i)(?:^|(?<=[;,]))[ \t]*(?:for|by)=(?:\"[^\"]*\"|[^\s;,\"]*)")


_LENGTHS: Final = tuple([b"%d:" % length for length in range(256)])
"""The lengths in front of the parts of a key; those of most parts are ready."""
_READY: Final = len(_LENGTHS)


@lru_cache(maxsize=256)
def host_name(host: bytes) -> str:
    """Return the host without its port, as Starlette's Host routes compare it."""
    return host.decode("latin-1").split(":")[0]


def join_injective(parts: Iterable[bytes]) -> bytes:
    """Return the parts with their lengths in front, so that no two lists give the same bytes."""
    return b"".join([b"%d:%b," % (len(part), part) for part in parts])


@final
class Site:
    """Method and host of requests, and the beginning and the end of all their primary keys.

    Args:
        namespace: of the settings.
        release: of the settings, and what else keeps the entries of applications apart.
        method: GET, which stands for HEAD too, or QUERY.
        scheme: of the requests.
        host: of the requests.
        root_path: of the scope.
        forwarded: what `forwarded_parts` gives of their fields.
        inner_root: what their paths begin with that the router does not see.
    """

    __slots__ = (
        "_digested", "_forwarded", "_origin", "_plain_end", "_room", "_shown", "_shown_origin",
        "host_name", "inner_root", "method", "name",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - what a key begins with, in its order
        self,
        namespace: str,
        release: str,
        method: str,
        scheme: bytes,
        host: bytes,
        root_path: bytes,
        forwarded: tuple[bytes, ...] = (),
        *,
        inner_root: str = "",
    ) -> None:
        spelled = release.encode("utf-8", "surrogatepass")
        # Both are in the digest too: their readable form in front is not injective.
        said = [FORMAT_VERSION, namespace.encode(), spelled, b"GET", scheme, host, root_path]
        front = join_injective(said)
        self._digested: Final = blake2b(front, digest_size=_DIGEST_BYTES)
        """The digest of the front, to go on with."""
        # The count keeps a forwarded header apart from an extra part with the same bytes.
        self._forwarded: Final = (b"%d" % (len(forwarded) // 2), *forwarded)
        self._plain_end: Final = join_injective(self._forwarded)
        self._shown: Final = b"%b%b:" % (entry_prefix(namespace), readable(spelled))
        self._origin: Final = b"%b://%b" % (scheme, host)
        self._shown_origin: Final = self._shown + readable(self._origin)
        self._room: Final = READABLE_LENGTH - len(self._origin)
        """Characters of a path that a key shows."""
        self.method: Final = method
        self.inner_root: Final = inner_root
        self.host_name: Final = host_name(host)
        self.name: Final = b"%b %b%b" % (method.encode(), front, self._plain_end)
        """Another one for each other site."""

    def key(self, raw_path: bytes, query: bytes, path: bytes, extra: Sequence[bytes] = ()) -> bytes:
        """Return the primary key of a URL: nothing is decoded or normalised.

        GET and HEAD share it, and QUERY, whose content is an extra part.

        Args:
            raw_path: the path as it was sent.
            query: the query as it was sent.
            path: the decoded path, which an outer middleware may have rewritten while it left the
                raw one alone.
            extra: other parts that distinguish requests: declared header parameters, the value of
                `vary_by`.
        """
        digest = hexlify(self.digest(raw_path, query, path, extra))
        if query or len(raw_path) > self._room or raw_path.translate(None, _SHOWN_AS_IT_IS):
            shown = (
                b"%b%b?%b" % (self._origin, raw_path, query) if query else self._origin + raw_path
            )
            return b"%b%b:%b" % (self._shown, readable(shown), digest)
        # The same for most paths, in fewer steps.
        return self._shown_origin + raw_path + b":" + digest

    def digest(
        self, raw_path: bytes, query: bytes, path: bytes, extra: Sequence[bytes] = ()
    ) -> bytes:
        """Return the digest at the end of the primary key of a URL."""
        end = join_injective((*self._forwarded, *extra)) if extra else self._plain_end
        raw_length, query_length, length = len(raw_path), len(query), len(path)
        if raw_length < _READY and query_length < _READY and length < _READY:
            # As `join_injective` does, in one step.
            said = b"".join((
                _LENGTHS[raw_length], raw_path, b",", _LENGTHS[query_length], query, b",",
                _LENGTHS[length], path, b",", end,
            ))  # fmt: skip
        else:
            said = join_injective((raw_path, query, path)) + end
        digest = self._digested.copy()
        digest.update(said)
        return digest.digest()


def entry_prefix(namespace: str) -> bytes:
    """Return what the keys of all entries of a namespace begin with."""
    return b"%b:e:" % namespace.encode()


def list_key(url_key: bytes) -> bytes:
    """Return the key of the list of all entries of a URL that are bounded in number.

    Args:
        url_key: the primary key of the URL without any declared fields.
    """
    namespace, _, rest = url_key.rpartition(b":e:")
    return b"%b:l:%b" % (namespace, rest)


def variant_key(primary: bytes, names: Sequence[bytes], values: Sequence[bytes | None]) -> bytes:
    """Return the key of the variant that these values of the selecting fields choose."""
    parts: list[bytes] = []
    for name, value in zip(names, values, strict=True):
        # An absent field is not an empty one.
        parts += (name, b"-" if value is None else b"+" + value)
    return primary + b":v:" + blake2b(join_injective(parts), digest_size=16).hexdigest().encode()


def is_variant(key: bytes, primary: bytes) -> bool:
    """Return whether a key is that of a variant of this primary key."""
    return key.startswith(primary + b":v:")


def forwarded_parts(lines: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    """Return name and value of each header of `FORWARDED_HEADERS`, one behind the other."""
    # A middleware around this one may have written a name in another case.
    lowered = ((name.lower(), value) for name, value in lines)
    return tuple(
        part
        for name, value in lowered
        if name in FORWARDED_HEADERS
        for part in (name, without_client(value) if name == b"forwarded" else value)
    )


def without_client(value: bytes) -> bytes:
    """Return a Forwarded value without `for=` and `by=`, which name clients and proxies.

    They differ for every client, so that with them nothing would ever be shared behind a proxy.
    A value whose quoted strings hold delimiters stays whole: an application that splits it without
    regard to quotes would read a host there that the key did not know.
    """
    if _PLAIN_FORWARDED.fullmatch(value) is None:
        return value
    return _FORWARDED_CLIENT.sub(b"", value)


def declared_query(query: bytes, names: frozenset[str]) -> bytes:
    """Return the parts of a query whose decoded name is declared, in order, as they were sent."""
    kept = [
        part
        for part in query.split(b"&")
        if unquote_plus(part.partition(b"=")[0].decode("latin-1")) in names
    ]
    return b"&".join(kept)


def readable(text: bytes) -> bytes:
    """Return the part of a key that shows a text."""
    shown = text[:READABLE_LENGTH]
    if shown.translate(None, _READABLE):
        # Seldom; the pattern takes twice the time of all else here.
        shown = _UNREADABLE.sub(b"_", shown)
    return shown.replace(b":e:", b":_:")
