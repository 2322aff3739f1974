"""A response that is being copied while it passes, and the fields added when it is whole."""

from hashlib import blake2b
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from maxage.cache.target import Target
from maxage.rfc9111.message import Headers, Request, StoredResponse
from maxage.rfc9111.policy import Policy
from maxage.rfc9111.stored_response import recorded_date
from maxage.rfc9111.structured import parse_strings
from maxage.rfc9111.verdicts import MayStore
from maxage.store.entry import Entry, VariantIndex
from maxage.store.lookup_result import LookupResult

_TAGGING: Final = frozenset({b"cache-tag", b"surrogate-key", b"cache-groups"})


def response_tags(headers: Headers) -> tuple[str, ...]:
    """Return the tags that a response names.

    `Cache-Tag` separates them by commas, `Surrogate-Key` by blanks; `Cache-Groups` is a list of
    strings (RFC 9875 section 2).
    """
    if not headers.has_any(_TAGGING):
        return ()
    tags: list[bytes] = []
    for line in headers.get_all(b"cache-tag"):
        tags += line.split(b",")
    for line in headers.get_all(b"surrogate-key"):
        tags += line.split()
    cleaned = (tag.strip().decode("latin-1") for tag in tags)
    groups = parse_strings(headers.get_all(b"cache-groups"))
    return tuple(dict.fromkeys(tag for tag in (*cleaned, *groups) if tag))


def completed(stored: StoredResponse, body: bytes, policy: Policy) -> StoredResponse:
    """Return the response with its body, and with the Date, Content-Length and ETag it lacks."""
    headers = stored.headers
    lines = headers.outline().at
    added = list(recorded_date(lines, policy, stored.response_time))
    if b"content-length" not in lines and stored.status != 204:
        # A body that a 304 calls current may be compressed already.
        length = len(body) if stored.plain_length is None else stored.plain_length
        added.append((b"content-length", b"%d" % length))
    if stored.status == 200 and b"etag" not in lines:
        added.append((b"etag", made_validator(body)))
    return replace(stored, body=body, headers=headers.adding(added))


def made_validator(body: bytes) -> bytes:
    """Return an entity tag for a body; weak, since an outer layer may still encode it."""
    return b'W/"' + blake2b(body, digest_size=12).hexdigest().encode() + b'"'


class Fill(Struct, frozen=True, kw_only=True):
    """A response that is being copied while it passes."""

    target: Target
    found: LookupResult
    request: Request
    verdict: MayStore
    groups: tuple[str, ...]
    """The groups that the response will belong to; each was captured before the handler ran."""
    listed_under: bytes | None = None
    """The list by which the entries of its URL are bounded in number; None: there is only one."""

    def values(self, entry: Entry) -> tuple[Entry] | tuple[Entry, VariantIndex]:
        """Return what is stored of it: its entry, and the index of its variants if it varies."""
        names = entry.stored.vary_names
        return (entry, VariantIndex(key=self.found.key, names=names)) if names else (entry,)
