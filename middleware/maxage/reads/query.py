"""QUERY (RFC 10008): a GET whose key holds its content as well."""

from maxage.asgi.body_replay import replaying, whole_request
from maxage.asgi.passthrough import pass_by
from maxage.asgi.types import Message, Receive, Scope, Send
from maxage.observe.words import Bypass
from maxage.reads import trial
from maxage.reads.fast_path import FastPath
from maxage.reads.get import answer_get


async def answer_query(fast_path: FastPath, scope: Scope, receive: Receive, send: Send) -> None:
    """Read the content of a QUERY and answer it like a GET.

    Content longer than `CACHE_MAX_QUERY_BYTES` is passed on as it comes.
    """
    service = fast_path.service
    received: list[Message] = []
    content = await _content(receive, received, longest=service.settings.cache_max_query_bytes)
    if content is None:
        counts = fast_path.cache.tally.of_route(None)
        again = replaying(received, receive)
        await pass_by(service, fast_path.cache, counts, Bypass.LONG_CONTENT, scope, again, send)
        return
    again = replaying([whole_request(content)], receive)
    await (trial.answer or answer_get)(fast_path, None, scope, again, send, content)


async def _content(receive: Receive, received: list[Message], *, longest: int) -> bytes | None:
    """Return the content; None: it is too long, or its client hung up.

    All messages are also put into `received`.
    """
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message: Message = await receive()
        received.append(message)
        if message["type"] != "http.request":
            return None
        piece = bytes(message.get("body", b""))
        size, more = size + len(piece), message.get("more_body", False)
        if size > longest:
            return None
        pieces.append(piece)
    return b"".join(pieces)
