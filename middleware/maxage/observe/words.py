"""The words of what the cache does: one vocabulary for Cache-Status, metrics, traces and tests.

The outcomes are RFC 9211's. `Bypass` and `Reason` are the values of `detail` in Cache-Status; each
member's text is its line of the table in `docs/operations.md`.
"""

from enum import StrEnum
from typing import Self


class _Word(StrEnum):
    """A word on the wire, with a sentence that says what it means."""

    text: str

    def __new__(cls, word: str, text: str) -> Self:
        """Make the word; it is equal to its spelling."""
        made = str.__new__(cls, word)
        made._value_ = word
        made.text = text
        return made


class Outcome(_Word):
    """How a request ended: `hit`, the words of RFC 9211 section 2.2, and two more."""

    HIT = "hit", "A stored response answered."
    COLLAPSED = "collapsed", "The response that another request was fetching answered."
    URI_MISS = "uri-miss", "Nothing usable was stored for the URL: the application answered."
    VARY_MISS = "vary-miss", "Only other variants were stored: the application answered."
    MISS = "miss", "Nothing stored could be used, without a closer reason."
    STALE = "stale", "The stored response was stale: the application was asked."
    PARTIAL = "partial", "A part was stored: the application was asked for the rest."
    REQUEST = (
        "request",
        "The request asked for it, such as by `no-cache`: the application answered.",
    )
    METHOD = "method", "The request may change something: the application answered."
    BYPASS = "bypass", "The cache may not answer: the application answered; `detail` says why."
    ONLY_IF_CACHED = (
        "only-if-cached",
        "Nothing stored could answer, and the request wanted nothing else: 504.",
    )


MISSES = (
    Outcome.URI_MISS, Outcome.VARY_MISS, Outcome.MISS, Outcome.STALE, Outcome.PARTIAL,
    Outcome.REQUEST, Outcome.BYPASS, Outcome.ONLY_IF_CACHED,
)  # fmt: skip
"""The outcomes of requests that were looked up and not answered by the cache."""


class Bypass(_Word):
    """Why a request is passed on without a lookup."""

    UNCACHED = (
        "uncached",
        (
            "The route is not cached: `@uncached`, `Rule(cache=False)`, or a path of more than "
            "32 segments."
        ),
    )
    OVERRIDE = "override", "A header names another method or URL, such as `X-Original-URL`."
    BODY = "body", "A GET or HEAD with a body."
    HOST = "host", "More than one Host."
    HEAD = "head", "Another route answers HEAD than GET."
    LONG_URL = (
        "long-url",
        "The URL, with Host and forwarded headers, is longer than `CACHE_MAX_KEY_BYTES`.",
    )
    LONG_CONTENT = (
        "long-content",
        "The content of a QUERY is longer than `CACHE_MAX_QUERY_BYTES`, or its client left.",
    )
    VARY_BY = (
        "vary_by",
        "`vary_by` refused the request: it raised, or returned neither str nor int.",
    )
    STORE_AWAY = (
        "store-away",
        "Redis does not answer, or a purge is owed: nothing from it is trusted.",
    )


class Reason(_Word):
    """Why a response is not stored."""

    # the request
    METHOD = "method", "The response to a HEAD."
    REQUEST_NO_STORE = "request-no-store", "The request says `no-store`."
    CREDENTIALS = (
        "credentials",
        (
            "The request has `Authorization` or a header of `CACHE_CREDENTIAL_HEADERS`, and the "
            "response does not say `public`, `s-maxage` or `must-revalidate`."
        ),
    )
    COOKIE = "cookie", "The same for a cookie that `CACHE_IGNORED_COOKIES` does not name."
    SESSION = "session", "The same for a session that holds something."
    USER = "user", "The same for a user that a layer has put into the scope."
    SECURITY = (
        "security",
        (
            "The same for a route with a security dependency; and for an uncommon request header, "
            "where the application may know its user by any header."
        ),
    )
    UNANNOUNCED_BODY = "unannounced-body", "The request has a body that no header announced."
    DISCONNECT = "disconnect", "The client left before the response was whole."
    # the response
    STATUS = (
        "status",
        "The status is never stored, such as 429, or not understood with `must-understand`.",
    )
    PARTIAL = "partial", "A 206 that cannot be kept, or a 416."
    CONDITIONAL = "conditional", "A 304 or 412: it answers the conditions of one request."
    NO_STORE = "no-store", "The response says `no-store`."
    PRIVATE = "private", "The response says `private`."
    VARY_STAR = "vary-star", "The response says `Vary: *`."
    SET_COOKIE = "set-cookie", "The response sets a cookie."
    STREAM = "stream", "An endless stream: `text/event-stream` or `multipart/x-mixed-replace`."
    SERVER_ERROR = "server-error", "A 5xx, without `CACHE_STORE_SERVER_ERRORS`."
    CLIENT_ERROR = (
        "client-error",
        "A 4xx that a header of one request may cause, without `CACHE_STORE_CLIENT_ERRORS`.",
    )
    NO_LIFETIME = (
        "no-lifetime",
        (
            "The response states no lifetime, and takes none by default: it is no 200, says "
            "`no-cache`, or its route has none."
        ),
    )
    LIFETIME_0 = (
        "lifetime-0",
        "The lifetime is over at once, and nothing in the response lets it be validated.",
    )
    TRAILERS = "trailers", "The response has trailers."
    CONTENT_LENGTH = "content-length", "Content-Length is no number, or there are two."
    TOO_LARGE = "too-large", "The body is longer than `CACHE_MAX_BODY_BYTES`."
    LONG_HEADERS = "long-headers", "The headers are longer than `CACHE_MAX_HEADER_BYTES`."
    TOO_MANY_TAGS = (
        "too-many-tags",
        "More tags than `CACHE_MAX_TAGS`, or one of more than 1024 characters.",
    )
    INCOMPLETE = "incomplete", "The body is shorter or longer than Content-Length."
    SENDFILE = "sendfile", "The server sends a file by itself (`http.response.pathsend`)."
    FAILED = "failed", "The application call failed after its response began."
    # what the cache knows
    OTHER_ROUTE = (
        "other-route",
        "Another route answered than the one that was foreseen; the routes are read again.",
    )
    UNKNOWN_ROUTE = (
        "unknown-route",
        (
            "No lifetime is stated, and the scope names no route: the application's cannot be "
            "read, or a layer inside passes on a copy of the scope, or answers itself."
        ),
    )
    LATE_TAG = (
        "late-tag",
        (
            "The response names a tag, or its handler read a table, that was unknown before the "
            "handler ran; the next one is stored."
        ),
    )
    LATE_HEADER = (
        "late-header",
        (
            "A header that no route declares was looked up after the response had begun: declare "
            "it, name it in Vary, or write `vary_by=`."
        ),
    )
    PURGED = "purged", "A value that the handler read was purged meanwhile."
    OTHER_STORE = (
        "other-store",
        (
            "The handler read typed values of another store, whose purges do not reach responses, "
            "or rows in a transaction that is older than the request."
        ),
    )
    REPLICA_LAG = (
        "replica-lag",
        "A purge of the last `CACHE_REPLICA_LAG` seconds: a replica may not have it yet.",
    )
    NO_ROOM = "no-room", "The bodies under way take all of `CACHE_PENDING_BYTES`."
    RELEARNT = (
        "relearnt",
        (
            "The last response of the URL forbade storing, this one does not; the next one is "
            "looked at."
        ),
    )


class PurgeCause(_Word):
    """Why groups were purged."""

    WRITE = (
        "write",
        "A request that may change something: before its answer, and when its call has returned.",
    )
    TYPED = "typed", "`set` or `delete` of the typed cache."
    COMMIT = "commit", "A commit of an instrumented SQLAlchemy engine (`maxage.sqlalchemy`)."
    HAND = "hand", "`purge()` and its kin, the purge route."
    SOFT = "soft", "The same with `soft=True`."
    RECOVERY = (
        "recovery",
        "Everything, since a server or a worker was lost with the purges that it owed.",
    )


class Kept(_Word):
    """Where this process keeps responses."""

    NEAR = "near", "Copies of responses in Redis (`CACHE_NEAR_BYTES`)."
    EMBEDDED = "embedded", "The embedded store, with typed values and tokens."


class TypedRead(_Word):
    """How a read of one object of the typed cache ended."""

    HIT = "hit", "The object was stored."
    MISS = "miss", "It was not, or Redis did not answer."
    LOAD = "load", "`get_or_set` called `load` for it."
