"""Cache Groups (RFC 9875) end to end."""

import pytest

from maxage import CacheMiddleware
from tests.support.asgi import HeaderInput, Receive, Scope, Send, call
from tests.support.caching import cache_of, piece, start

pytestmark = pytest.mark.anyio


class Grouped:
    """Its GET responses are in these groups; the answers to all other methods name those."""

    def __init__(self, groups: bytes, invalidates: bytes, status: int = 200) -> None:
        self.groups, self.invalidates, self.status = groups, invalidates, status
        self.runs = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        self.runs += 1
        scope["endpoint"] = self
        reads = scope["method"] == "GET" and scope["path"] != "/reads"
        line = (
            (b"cache-groups", self.groups)
            if reads
            else (b"cache-group-invalidation", self.invalidates)
        )
        await send(start(line, status=200 if reads else self.status))
        await send(piece(b"run %d" % self.runs))


async def is_purged(app: Grouped, method: str = "POST", path: str = "/elsewhere") -> bool:
    """Whether the request makes the stored response of /x a miss."""
    middleware: CacheMiddleware = cache_of(app)
    for _ in range(2):  # the first one names a group that was not captured before it
        await call(middleware)
    before = (await call(middleware)).body
    headers: HeaderInput = {"content-length": "0"}
    await call(middleware, method, path, headers=headers)
    return (await call(middleware)).body != before


@pytest.mark.parametrize(
    ("groups", "invalidates", "purged"),
    [
        (b'"a"', b'"a"', True),
        (b'"a", "b"', b'"x", "b"', True),
        (b'"a"', b'"A"', False),
        (b'"a"', b"a", False),
        (b'"a";x=1', b'"a"', True),
        (b'"a"', b'"a", "', False),
        (b'"a"', b'""', False),
    ],
)
async def test_an_invalidated_group_purges_what_belongs_to_it(
    groups: bytes, invalidates: bytes, purged: bool
) -> None:
    """Strings, compared as they are; a field that does not parse names nothing."""
    assert await is_purged(Grouped(groups, invalidates)) is purged


@pytest.mark.parametrize(
    ("status", "purged"), [(200, True), (204, True), (303, True), (400, False), (409, False)]
)
async def test_an_error_invalidates_no_group(status: int, purged: bool) -> None:
    """Only what may have changed something."""
    assert await is_purged(Grouped(b'"a"', b'"a"', status)) is purged


async def test_a_safe_method_invalidates_no_group() -> None:
    """The field is for answers to unsafe methods."""
    app = Grouped(b'"a"', b'"a"')
    assert not await is_purged(app, "GET", "/reads")
    assert not await is_purged(app, "OPTIONS")


async def test_at_least_32_groups_of_32_characters_are_supported() -> None:
    """On both sides."""
    names = [b'"%032d"' % number for number in range(32)]
    app = Grouped(b", ".join(names), names[-1])
    assert await is_purged(app)
    app = Grouped(names[-1], b", ".join(names))
    assert await is_purged(app)
