"""A variant chosen by its language (RFC 9110 sections 8.5 and 12.5.4, RFC 9111 section 4.1)."""

from typing import Final

from maxage.rfc9111.field_list import list_members
from maxage.rfc9111.message import Headers, StoredResponse
from maxage.rfc9111.vary import preference_weights

ACCEPT_LANGUAGE: Final = b"accept-language"


def preferred_language(headers: Headers) -> bytes | None:
    """Return the one language that the request prefers to all others, lower case, or None."""
    # RFC 9110 section 12.5.4: "Each language-range can be given an associated quality value
    # representing an estimate of the user's preference for the languages specified by that range".
    known = preference_weights(headers.get_all(ACCEPT_LANGUAGE)) or {}
    most = max(known.values(), default=0)
    first = [name for name, weight in known.items() if weight == most]
    return first[0] if most and len(first) == 1 and first[0] != b"*" else None


def is_in_language(
    stored: StoredResponse, selecting: tuple[bytes | None, ...], language: bytes
) -> bool:
    """Return whether a variant is in this language and its other selecting fields match.

    `selecting` are the request's values of the stored response's selecting fields.
    """
    # RFC 9111 section 4.1 lets a variant be chosen where the selecting fields match after a
    # normalisation "known to have identical semantics". Here the preferred language is compared
    # with the variant's own: "The Content-Language header field describes the natural language(s)
    # of the intended audience for the representation" (RFC 9110 section 8.5).
    # Deviation: an application may weigh preferences in its own way, so that this is a setting.
    names = stored.vary_names
    if ACCEPT_LANGUAGE not in names or len(names) != len(selecting):
        return False
    others = all(
        name == ACCEPT_LANGUAGE or mine == theirs
        for name, mine, theirs in zip(names, stored.selecting, selecting, strict=True)
    )
    languages = [tag.lower() for tag in list_members(stored.headers.get_all(b"content-language"))]
    return others and languages == [language]
