"""An answer that is held back until what it acknowledges is committed and purged."""

from typing import Final, final

from maxage.asgi.types import Message
from maxage.cache.cache import Cache


@final
class HeldResponse:
    """The messages of one answer; bounded in bytes, by itself and together with all others."""

    def __init__(self, cache: Cache) -> None:
        self._cache: Final = cache
        self._messages: list[Message] = []
        self._size = 0

    def keep(self, message: Message) -> bool:
        """Hold a message back; False: there is no room for it."""
        size = len(message.get("body", b""))
        longest = self._cache.settings.cache_max_body_bytes
        if self._size + size > longest or not self._cache.pending_writes.take(size):
            return False
        self._messages.append(message)
        self._size += size
        return True

    def release(self) -> list[Message]:
        """Return what was held, which takes no room any more."""
        self._cache.pending_writes.give_back(self._size)
        messages, self._messages, self._size = self._messages, [], 0
        return messages
