"""The groups that the answer to a write names, to be purged with those of its URL."""

from typing import Final

from maxage.asgi.responder import Responder
from maxage.invalidation.group_names import tag_group
from maxage.rfc9111.message import Headers
from maxage.rfc9111.structured import parse_strings
from maxage.rfc9111.unsafe_methods import same_origin_targets

_NAMING: Final = frozenset({b"cache-group-invalidation", b"location", b"content-location"})

MAX_NAMED_GROUPS: Final = 128
"""Groups of one Cache-Group-Invalidation that are purged (RFC 9875 section 3 asks for 32)."""


def answer_groups(responder: Responder, headers: Headers, *, changes: bool) -> tuple[str, ...]:
    """Return the groups that the headers of an answer name.

    They are the groups of the URLs in Location and Content-Location (RFC 9111 section 4.4), and
    those in Cache-Group-Invalidation (RFC 9875 section 3).

    Without `changes` its route says that it purges nothing, so that Location only shows the way, as
    after a login.
    """
    if not headers.has_any(_NAMING):
        return ()
    headers = Headers.copied(headers)
    declared = parse_strings(headers.get_all(b"cache-group-invalidation"))
    # Deviation: RFC 9875 keeps the groups of different origins apart; tags are one space here,
    # so that such a purge may reach more than it names, and never less.
    groups = tuple(tag_group(tag) for tag in declared[:MAX_NAMED_GROUPS])
    if not changes or (b"location" not in headers and b"content-location" not in headers):
        return groups
    scope = responder.scope
    paths = same_origin_targets(
        headers,
        scheme=scope.get("scheme", "http"),
        host=(responder.headers.first(b"host") or b"").decode("latin-1"),
        path=(scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
    )
    targets = responder.service.targets
    return (*groups, *(group for path in paths for group in targets.member(path, scope)))
