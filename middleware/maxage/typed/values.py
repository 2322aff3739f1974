"""Values on the wire: plain JSON under `prefix:id`, with a seal that binds it to its tokens."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar, cast, final

from maxage.invalidation.group_names import tag_group
from maxage.observe.counters import PROCESS
from maxage.store.base import StoreReply
from maxage.store.seal import SealedValue, digest_of, seal_of
from maxage.store.tokens import NAMESPACE_GROUP
from maxage.typed.encoding import Encoded, Encodings, Model, UnfaithfulEncodingError
from maxage.typed.flights import Loaded

Id = TypeVar("Id", bound=str | int)
Identity = str | int
Tokens = Mapping[str, bytes | None]
"""The token of each group; None: the token is not known, or nothing may be stored under it."""
logger = logging.getLogger("maxage")

_MAX_WARNINGS: Final = 100
"""Parts of values that one cache warns about."""


@final
class Values(Generic[Model]):
    """The values of one type and prefix: their keys, groups, encoding and seals.

    Args:
        model: the type; all that pydantic's TypeAdapter takes.
        prefix: the first part of the keys.
    """

    def __init__(self, model: type[Model], prefix: str) -> None:
        self._encodings: Final = Encodings(model)
        self._prefix: Final = prefix
        self._warned: Final[set[str]] = set()

    def group(self, id: Identity) -> str:
        """Return the group of a value, which is purged when the value changes."""
        return tag_group(f"{self._prefix}:{id}")

    def keys(self, namespace: str, ids: Iterable[Identity]) -> list[bytes]:
        """Return two keys for each value: its own, and that of its seal."""
        names = [f"{self._prefix}:{id}" for id in ids]
        keys = [key for name in names for key in (name, f"{namespace}:s:{name}")]
        return [key.encode("utf-8", "surrogatepass") for key in keys]

    def encode(self, value: Model) -> Encoded | None:
        """Return the value as JSON; None, after a warning, if another value would be read."""
        try:
            return self._encodings.encode(value)
        except UnfaithfulEncodingError as error:
            self._warn(str(error))
            return None

    def encode_loaded(self, value: Model) -> tuple[Model, Encoded | None]:
        """Return a value that `load` gave as the cache's type, and its JSON if it can be stored."""
        try:
            return value, self._encodings.encode(value)
        except UnfaithfulEncodingError as error:
            # Where the type has no None, `load` says with None that there is no object.
            if value is None:
                return value, None
            lost = str(error)
        converted = self._encodings.converted(value)
        if converted is not None:
            return converted, self.encode(converted)
        self._warn(lost)
        return value, None

    def typed(self, value: Model) -> Model:
        """Return a value that is not to be stored as the cache's type, if pydantic accepts it."""
        converted = self._encodings.converted(value)
        return value if converted is None else converted

    @property
    def kind(self) -> bytes:
        """What tells the type from others under the same keys."""
        return self._encodings.kinds[0]

    def value_of(self, outcome: Loaded) -> Model:
        """Return a value of its own for one who waited for a load."""
        if outcome.encoded is None:
            return cast("Model", None)
        return self._encodings.decode(outcome.encoded)

    def opened(self, ids: Sequence[Id], reply: StoreReply, tokens: Tokens) -> dict[Id, Model]:
        """Return the values whose seal is their own and names the current tokens and the type."""
        opened: dict[Id, Model] = {}
        values = list(reply.values)
        for id, data, seal in zip(ids, values[::2], values[1::2], strict=True):
            if not isinstance(data, bytes) or not isinstance(seal, bytes):
                continue
            kind = self._kind(data, seal, tokens[NAMESPACE_GROUP], tokens[self.group(id)])
            if kind is None:
                continue
            try:
                opened[id] = self._encodings.decode(Encoded(data, kind))
            except Exception as error:  # noqa: BLE001 - validators raise anything
                PROCESS.unreadable += 1
                logger.debug("Stored %s counts as missing: %s", self._prefix, type(error).__name__)
        return opened

    def _kind(
        self, data: bytes, seal: bytes, namespace: bytes | None, token: bytes | None
    ) -> bytes | None:
        """Return the kind of encoding that the seal names; None: the seal is not the value's."""
        if namespace is None or token is None or not seal.endswith(seal_of(b"", namespace, token)):
            return None
        for kind in self._encodings.kinds:
            if seal == seal_of(digest_of(data, kind), namespace, token):
                return kind
        return None

    def seal(
        self, key: bytes, encoded: Encoded, tokens: tuple[bytes, bytes], keep_for: float
    ) -> SealedValue:
        """Return the parts of a value's seal; `tokens` are those of the namespace and the group."""
        namespace, token = tokens
        digest = digest_of(encoded.data, encoded.kind)
        return SealedValue(
            token=token, namespace=namespace, key=key, digest=digest, keep_for=keep_for
        )

    def _warn(self, path: str) -> None:
        if path not in self._warned and len(self._warned) < _MAX_WARNINGS:
            self._warned.add(path)
            logger.warning(
                "RedisCache %r does not store a value: %s would not be read as it was written. It "
                "is loaded each time. Give this part a JSON form that pydantic reads back, or "
                "store a type without it.",
                self._prefix,
                path,
            )
