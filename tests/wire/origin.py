"""The scripted application behind a real server: it answers as the scripts say, run by run."""

from collections import Counter

from maxage import CacheMiddleware, CacheSettings
from tests.support.asgi import Receive, Scope, Send, read_body, serve_lifespan
from tests.wire.script import Answer
from tests.wire.scripts import SCRIPTS

_answers = {script.name: script.answers for script in SCRIPTS}
_runs = Counter[str]()


async def origin(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the script that the path names; `/runs/NAME` tells how often it has run."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    scope["endpoint"] = origin
    name = scope["path"].rsplit("/", 1)[-1]
    if scope["path"].startswith("/runs/"):
        await _send(Answer(headers=((b"cache-control", b"no-store"),)), send, b"%d" % _runs[name])
        return
    _runs[name] += 1
    run = _runs[name]
    answers = _answers[name]
    answer = answers[min(run, len(answers)) - 1]
    body = await read_body(receive)
    await _send(answer, send, b"".join(answer.chunks).replace(b"RUN", b"%d" % run) or body)
    if answer.then == "wait":
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": b""})


async def _send(answer: Answer, send: Send, whole: bytes) -> None:
    start = {"type": "http.response.start", "status": answer.status}
    await send({**start, "headers": [list(line) for line in answer.headers]})
    for chunk in answer.chunks[:-1]:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    last = whole if len(answer.chunks) == 1 else answer.chunks[-1]
    more = answer.then != "end"
    await send({"type": "http.response.body", "body": last, "more_body": more})
    if answer.then == "raise":
        raise RuntimeError("the script says so")


app = CacheMiddleware(
    origin,
    CacheSettings(cache_collapse_wait=1, cache_stale_if_error=3600, cache_max_header_bytes=65536),
)
