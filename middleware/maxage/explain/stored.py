"""Stored responses: those of a URL, and those in a group. A look changes nothing."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol, final
from urllib.parse import urlsplit

from maxage.cache.key import READABLE_LENGTH, entry_prefix, readable
from maxage.clock import wall_clock
from maxage.errors import SettingsError
from maxage.explain.explanation import GroupState
from maxage.explain.request import sent_as
from maxage.redis_store.observer import Observer
from maxage.redis_url import server_url
from maxage.rfc9111.age import current_age
from maxage.settings import CacheSettings
from maxage.store.base import Value
from maxage.store.codec import Codec, tokens_at
from maxage.store.entry import Entry, VariantIndex
from maxage.store.memory import MemoryStore

_KEY: Final = re.compile(
    rb"(?P<origin>[a-z][a-z0-9+.-]*://[^/?]*)(?P<target>.*):[0-9a-f]{40}(?::v:[0-9a-f]{32})?",
    re.DOTALL,
)
_HEAD_BYTES: Final = 16_384
"""Bytes of a value that are read for its tokens; longer heads are read whole."""
_GLOBBED: Final = 60
"""Characters of a path by which the server chooses keys; the rest is compared here."""
_GLOB: Final = re.compile(rb"([\[\]*?\\^])")


class Shelf(Protocol):
    """A store to look into."""

    def keys(self, pattern: bytes, prefix: bytes) -> Iterator[Sequence[bytes]]:
        """Yield the keys that match a glob pattern, or at least those with its prefix."""
        ...

    def values(self, keys: Sequence[bytes]) -> Sequence[tuple[Value | None, float | None, int]]:
        """Return each value, the seconds until it ends, and its bytes in the store."""
        ...

    def tokens(self, keys: Sequence[bytes]) -> Sequence[tuple[tuple[str, bytes], ...] | None]:
        """Return the tokens that each response carries; None: it is none."""
        ...

    def current(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        """Return the current token of each group."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """One stored response; seconds and bytes."""

    key: str
    url: str
    """As the key shows it: at most 160 characters."""
    readable: bool
    """False: it is damaged, or signed with another `CACHE_SECRET`; all below is empty."""
    stored_bytes: int
    """Bytes of its value in the store."""
    ends_in: float | None
    """Seconds until the store drops it."""
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body_bytes: int = 0
    age: float = 0.0
    lifetime: float = 0.0
    selected_by: tuple[tuple[str, str | None], ...] = ()
    """The request headers that select it, with the values it is for; None: absent."""
    groups: tuple[GroupState, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether all its tokens are current: no purge has come since."""
        return self.readable and all(state.fits for state in self.groups)

    def as_dict(self) -> dict[str, Any]:
        """Return values that JSON knows."""
        return asdict(self) | {"valid": self.valid}


def stored_at(shelf: Shelf, settings: CacheSettings, url: str) -> Iterator[StoredEntry]:
    """Yield the responses that are stored for a URL, in all variants and for all hosts.

    Args:
        shelf: where to look.
        settings: namespace and secret.
        url: a path, for every host, or a whole URL. Without a query it stands for all queries.

    Raises:
        SettingsError: it is neither.
        StoreUnavailableError: the store did not answer.
    """
    wanted, prefix = _Wanted(url), entry_prefix(settings.cache_namespace)
    secret = settings.cache_secret
    codec = Codec(secret.get_secret_value().encode() if secret else None, keeps_compressed=True)
    for found in shelf.keys(wanted.pattern(prefix), prefix):
        keys = [key for key in found if wanted.has(key)]
        for key, (value, ends_in, size) in zip(keys, shelf.values(keys), strict=True):
            entry = codec.decode(value, key) if isinstance(value, bytes) else value
            if value is not None and not isinstance(entry, VariantIndex):
                yield _shown(shelf, key, entry, ends_in, size)


def stored_in(shelf: Shelf, settings: CacheSettings, groups: Collection[str]) -> Iterator[str]:
    """Yield the keys of the responses that are in one of the groups, purged or not.

    Raises:
        StoreUnavailableError: the store did not answer.
    """
    prefix, wanted = entry_prefix(settings.cache_namespace), frozenset(groups)
    for keys in shelf.keys(_escaped(prefix) + b"*", prefix):
        for key, tokens in zip(keys, shelf.tokens(keys), strict=True):
            if tokens is not None and not wanted.isdisjoint(group for group, _ in tokens):
                yield key.decode("ascii", "replace")


def shelf_of(settings: CacheSettings, store: MemoryStore | None = None) -> Shelf:
    """Return where the settings store: a server, or the embedded store of this process."""
    if server_url(settings.redis_url) is not None:
        return RedisShelf(Observer(settings), settings.cache_namespace)
    if store is None:
        raise SettingsError("REDIS_URL is not set, and no other process sees an embedded store.")
    return MemoryShelf(store)


@final
class RedisShelf:
    """A store on Redis; see `Shelf` for the methods."""

    def __init__(self, observer: Observer, namespace: str) -> None:
        self._observer: Final = observer
        self._namespace: Final = namespace

    def keys(self, pattern: bytes, prefix: bytes) -> Iterator[Sequence[bytes]]:
        del prefix
        return self._observer.scan(pattern)

    def values(self, keys: Sequence[bytes]) -> Sequence[tuple[Value | None, float | None, int]]:
        told = self._observer.run([(word, key) for key in keys for word in ("GET", "PTTL")])
        return [
            (value, left / 1000 if isinstance(left, int) and left >= 0 else None, len(value))
            if isinstance(value, bytes)
            else (None, None, 0)
            for value, left in zip(told[::2], told[1::2], strict=True)
        ]

    def tokens(self, keys: Sequence[bytes]) -> Sequence[tuple[tuple[str, bytes], ...] | None]:
        """Return tokens by the beginnings of the values."""
        begun = self._observer.run([("GETRANGE", key, 0, _HEAD_BYTES - 1) for key in keys])
        found = [tokens_at(one) if isinstance(one, bytes) else None for one in begun]
        for position, (frame, tokens) in enumerate(zip(begun, found, strict=True)):
            if tokens is None and isinstance(frame, bytes) and len(frame) == _HEAD_BYTES:
                (whole,) = self._observer.run([("GET", keys[position])])
                found[position] = tokens_at(whole) if isinstance(whole, bytes) else None
        return found

    def current(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        return self._observer.peek(self._namespace, (), groups).tokens


@final
class MemoryShelf:
    """The embedded store of this process; see `Shelf` for the methods."""

    def __init__(self, store: MemoryStore) -> None:
        self._store: Final = store

    def keys(self, pattern: bytes, prefix: bytes) -> Iterator[Sequence[bytes]]:
        del pattern
        yield [key for key in self._store.all_keys() if key.startswith(prefix)]

    def values(self, keys: Sequence[bytes]) -> Sequence[tuple[Value | None, float | None, int]]:
        """Return values and the bytes of their bodies."""
        values = self._store.peek(keys, ()).values
        return [(v, None, len(v.stored.body) if isinstance(v, Entry) else 0) for v in values]

    def tokens(self, keys: Sequence[bytes]) -> Sequence[tuple[tuple[str, bytes], ...] | None]:
        values = self._store.peek(keys, ()).values
        return [value.tokens if isinstance(value, Entry) else None for value in values]

    def current(self, groups: Sequence[str]) -> Sequence[bytes | None]:
        return self._store.peek((), groups).tokens


def _shown(
    shelf: Shelf, key: bytes, entry: object, ends_in: float | None, size: int
) -> StoredEntry:
    match = _KEY.search(key)
    url = _text(match["origin"] + match["target"]) if match is not None else ""
    common: dict[str, Any] = {
        "key": key.decode(), "url": url, "stored_bytes": size, "ends_in": ends_in,
    }  # fmt: skip
    if not isinstance(entry, Entry):
        return StoredEntry(readable=False, **common)
    stored, names = entry.stored, [group for group, _ in entry.tokens]
    pairs = zip(entry.tokens, shelf.current(names), strict=True)
    selecting = zip(stored.vary_names, stored.selecting, strict=True)
    return StoredEntry(
        readable=True,
        status=stored.status,
        headers=tuple((_text(name), _text(value)) for name, value in stored.headers.raw),
        body_bytes=stored.length,
        age=current_age(stored, now=wall_clock()),
        lifetime=stored.freshness_lifetime,
        selected_by=tuple(
            # The mark in front says that the value's order counts.
            (_text(n), None if v is None else _text(v.removeprefix(b"?")))
            for n, v in selecting
        ),
        groups=tuple(
            GroupState(group=g, stored=_text(t), current=None if now is None else _text(now))
            for (g, t), now in pairs
        ),
        **common,
    )


def _text(value: bytes) -> str:
    return value.decode("latin-1")


@final
class _Wanted:
    """The URLs that a path or a URL stands for.

    Raises:
        SettingsError: it is neither.
    """

    def __init__(self, url: str) -> None:
        text = url.strip().partition("#")[0]
        origin = re.match(r"(?i)https?://[^/?]+", text)
        target = text[origin.end() :] if origin else text
        if not _is_origin(origin[0]) if origin else not target.startswith("/"):
            raise SettingsError(
                f"{url!r} is no URL; it takes a path that begins with / or a whole URL, such as "
                "https://example.org/items."
            )
        self._origin: Final = origin[0].lower().encode("utf-8", "replace") if origin else b""
        self._target: Final = readable(sent_as(target) or b"/")

    def pattern(self, prefix: bytes) -> bytes:
        """Return a glob pattern that the keys of these URLs match, and perhaps others."""
        front, path = _escaped(prefix), _escaped(self._target[:_GLOBBED])
        # The case of a host is that of the client's.
        return front + b"*://*" + path + b"*"

    def has(self, key: bytes) -> bool:
        """Return whether a key is that of one of the URLs, as far as it shows its URL."""
        match = _KEY.search(key)
        if match is None or self._origin not in (b"", match["origin"].lower()):
            return False
        shown, wanted = match["target"], self._target
        if shown == wanted or (b"?" not in wanted and shown.partition(b"?")[0] == wanted):
            return True
        is_cut = len(match["origin"]) + len(shown) >= READABLE_LENGTH
        return is_cut and wanted.startswith(shown)


def _is_origin(text: str) -> bool:
    """Return whether a scheme is followed by a host, and by nothing else but a port."""
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != -1 and not parts.username
    except ValueError:
        return False


def _escaped(text: bytes) -> bytes:
    """Return a text as a glob pattern that matches nothing else."""
    return _GLOB.sub(rb"\\\1", text)
