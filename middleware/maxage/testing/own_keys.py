"""The keys of a test run on the user's own Redis: all have a part that no other run has."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from secrets import token_hex
from typing import Any, Final, final

from maxage.errors import SettingsError, StoreUnavailableError
from maxage.redis_store.leases.registry import registry_key
from maxage.redis_store.observer import Observer
from maxage.redis_store.servers.commands import Command
from maxage.redis_store.shared_state import redis_states
from maxage.settings import CacheSettings
from maxage.typed.values import Identity, Values

_AGEING: Final = (b":e:", b":l:", b":s:")
"""Parts of the keys of responses, their lists, and the seals of typed values."""

_LEASES: Final = registry_key("")

KeysOf = Callable[[Values[Any], str, Iterable[Identity]], list[bytes]]


@final
class OwnKeys:
    """The keys of one test run, on a server or in the embedded store.

    Args:
        url: of the server; None: the embedded store.
    """

    def __init__(self, url: str | None) -> None:
        self.url: Final = url
        self._mark: Final = f"-test-{token_hex(4)}"

    def namespace(self, namespace: str) -> str:
        """Return the namespace that stands for one of the application's."""
        return namespace + self._mark

    def check(self, settings: CacheSettings) -> None:
        """Ask the server once.

        Raises:
            SettingsError: it does not answer.
        """
        if self.url is None:
            return
        try:
            Observer(settings).ping()
        except StoreUnavailableError as error:
            raise SettingsError(
                f"fresh_cache: the server that cache_redis_url names does not answer ({error})."
            ) from None

    def remove(self, settings: CacheSettings) -> None:
        """Remove all keys but those of the leases: the next test finds an empty cache."""
        if self.url is not None:
            for keys in self._keys(settings):
                removed = (key for key in keys if not key.endswith(_LEASES))
                Observer(settings).run([("UNLINK", key) for key in removed])

    def end(self, settings: CacheSettings) -> None:
        """Sign off, and remove all keys."""
        for state in redis_states():
            if state.namespace.endswith(self._mark):
                state.close()
        if self.url is not None:
            for keys in self._keys(settings):
                Observer(settings).run([("UNLINK", key) for key in keys])

    def age(self, settings: CacheSettings, seconds: float) -> None:
        """Take seconds from the lifetime of all responses and typed values on the server."""
        if self.url is None:
            return
        observer = Observer(settings)
        for keys in self._keys(settings):
            ageing = [key for key in keys if any(part in key for part in _AGEING)]
            left: Sequence[object] = observer.run([("PTTL", key) for key in ageing])
            observer.run(list(_shorter(zip(ageing, left, strict=True), seconds)))

    def _keys(self, settings: CacheSettings) -> Iterator[list[bytes]]:
        return Observer(settings).scan(f"*{self._mark}:*".encode())


def _shorter(lifetimes: Iterable[tuple[bytes, object]], seconds: float) -> Iterator[Command]:
    for key, left in lifetimes:
        if isinstance(left, int) and left >= 0:
            # A lifetime that is not positive removes the key.
            yield "PEXPIRE", key, left - int(seconds * 1000)


def prefixed(keys_of: KeysOf) -> KeysOf:
    """Return a function that gives the keys of typed values with the namespace in front.

    Outside of tests they have none, since other programs read them.
    """

    def keys(values: Values[Any], namespace: str, ids: Iterable[Identity]) -> list[bytes]:
        made = keys_of(values, namespace, ids)
        made[::2] = [f"{namespace}:v:".encode() + key for key in made[::2]]
        return made

    return keys
