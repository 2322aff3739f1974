"""The responder of one QUERY (RFC 10008): a GET whose key holds its content as well."""

from typing import Final, final

from maxage.asgi.passthrough import pass_on
from maxage.asgi.responder import Responder
from maxage.asgi.types import Message
from maxage.reads.get import GetResponder

_METADATA: Final = (b"content-type", b"content-encoding", b"content-language")


@final
class QueryResponder(Responder):
    """Reads the content of a QUERY, and answers it like a GET of its own."""

    async def run(self) -> None:
        """Serve from the store, or forward; content over the limit is passed on as it comes."""
        self._received: list[Message] = []
        content = await self._read()
        if content is None:
            await pass_on(self.service, self.cache, self.scope, self._again, self.send)
            return
        reading = GetResponder(self.service, self.cache, self.scope, self._again, self.send)
        reading.content = content
        reading.content_key = self._key_of(content)
        await reading.run()

    async def _read(self) -> bytes | None:
        """Return the content, or None where it is too long or its client hung up."""
        limit = self.service.settings.cache_max_query_bytes
        pieces: list[bytes] = []
        size, more = 0, True
        while more:
            message: Message = await self.receive()
            self._received.append(message)
            if message["type"] != "http.request":
                return None
            piece = bytes(message.get("body", b""))
            size, more = size + len(piece), message.get("more_body", False)
            if size > limit:
                return None
            pieces.append(piece)
        content = b"".join(pieces)
        self._received = [{"type": "http.request", "body": content, "more_body": False}]
        return content

    async def _again(self) -> Message:
        """Give what was received here once more, and then whatever follows."""
        return self._received.pop(0) if self._received else await self.receive()

    def _key_of(self, content: bytes) -> tuple[bytes, ...]:
        # RFC 10008 section 2.7: "The cache key for a QUERY request MUST incorporate the request
        # content and related metadata." Nothing is normalised: what is written in another way is
        # another question.
        values = (self.headers.combined(name) for name in _METADATA)
        metadata = (b"-" if value is None else b"+" + value for value in values)
        return (b"QUERY", *metadata, content)
