"""Values on the wire: plain JSON under `prefix:id`, with a seal that binds it to its tokens."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar, final

from pydantic import TypeAdapter, ValidationError

from maxage.invalidation.group_names import tag_group
from maxage.store.base import StoreReply, Value
from maxage.store.seal import SealedValue, digest_of, is_sealed
from maxage.store.tokens import NAMESPACE_GROUP

Model = TypeVar("Model")
Id = TypeVar("Id", bound=str | int)
Identity = str | int
Tokens = Mapping[str, bytes | None]
"""The token of each group; None: the token is not known, or nothing may be stored under it."""
logger = logging.getLogger("maxage")


@final
class Values(Generic[Model]):
    """The values of one type and prefix: their keys, groups, encoding and seals.

    Args:
        adapter: pydantic's adapter of the type.
        prefix: the first part of the keys.
    """

    def __init__(self, adapter: TypeAdapter[Model], prefix: str) -> None:
        self._adapter: Final = adapter
        self._prefix: Final = prefix

    def group(self, id: Identity) -> str:
        """Return the group of a value, which is purged when the value changes."""
        return tag_group(f"{self._prefix}:{id}")

    def keys(self, namespace: str, ids: Iterable[Identity]) -> list[bytes]:
        """Return two keys for each value: its own, and that of its seal."""
        names = [f"{self._prefix}:{id}" for id in ids]
        keys = [key for name in names for key in (name, f"{namespace}:s:{name}")]
        return [key.encode("utf-8", "surrogatepass") for key in keys]

    def opened(self, ids: Sequence[Id], reply: StoreReply, tokens: Tokens) -> dict[Id, Model]:
        """Return the values whose seal is their own and names the current tokens."""
        opened: dict[Id, Model] = {}
        namespace = tokens[NAMESPACE_GROUP]
        pairs: list[Value | None] = list(reply.values)
        for id, value, seal in zip(ids, pairs[::2], pairs[1::2], strict=True):
            if not isinstance(value, bytes) or not isinstance(seal, bytes):
                continue
            if not is_sealed(value, seal, namespace, tokens[self.group(id)]):
                continue
            try:
                opened[id] = self._adapter.validate_json(value)
            except ValidationError:
                logger.debug(
                    "A stored %s does not fit its type: it counts as missing.", self._prefix
                )
        return opened

    def sealed(
        self, namespace: str, values: Mapping[Id, Model], tokens: Tokens, keep_for: float
    ) -> tuple[list[tuple[bytes, bytes]], dict[str, SealedValue]]:
        """Return the entries to store, and what each seal is made of by the group of its value.

        Both are empty where a token is missing.
        """
        entries: list[tuple[bytes, bytes]] = []
        seals: dict[str, SealedValue] = {}
        for id, value in values.items():
            group = self.group(id)
            namespace_token, token = tokens.get(NAMESPACE_GROUP), tokens.get(group)
            if namespace_token is None or token is None:
                return [], {}
            key, seal_key = self.keys(namespace, [id])
            encoded = self._adapter.dump_json(value)
            sealed = SealedValue(
                token=token,
                namespace=namespace_token,
                key=seal_key,
                digest=digest_of(encoded),
                keep_for=keep_for,
            )
            seals[group] = sealed
            entries += ((key, encoded), (seal_key, sealed.seal(token)))
        return entries, seals
