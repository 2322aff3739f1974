"""Vary: which stored variant a request chooses (RFC 9111 section 4.1).

`maxage.cache.lookup` reads the variant that the request's selecting fields name.
"""

import re
from functools import lru_cache
from typing import Final

from maxage.rfc9111.field_list import is_token, list_members, split_members
from maxage.rfc9111.message import Headers, StoredResponse
from maxage.rfc9111.policy import Policy


def vary_names(headers: Headers) -> tuple[bytes, ...] | None:
    """Return the names of the selecting fields, lower case, sorted; None: no request matches."""
    names = {member.lower() for member in list_members(headers.get_all(b"vary"))}
    # Section 4.1: "A stored response with a Vary header field value containing a member "*" always
    # fails to match." A member that is no field name may mean anything: it never matches either.
    if b"*" in names or not all(is_token(name) for name in names):
        return None
    # Deviation: a response that allows one origin by name varies by Origin, even without that Vary.
    # Fetch, section "CORS protocol and HTTP caches", asks for it. Where a handler reflects Origin
    # and forgot Vary, all other clients would get the first client's origin.
    if headers.get_all(b"access-control-allow-origin") not in ((), (b"*",)):
        names.add(b"origin")
    return tuple(sorted(names))


def distinguishing_names(headers: Headers, policy: Policy) -> tuple[bytes, ...]:
    """Return the names of the selecting fields that are no part of the key; all requests match
    where a member of Vary is none."""
    names, keyed = vary_names(headers) or (), policy.keyed_fields
    return tuple([name for name in names if name not in keyed]) if keyed else names


def selects(request_headers: Headers, stored: StoredResponse, policy: Policy) -> bool:
    """Return whether a request chooses this stored variant: its selecting fields are the same.

    Section 4.1: "the cache MUST NOT use that stored response without revalidation unless all the
    presented request header fields nominated by that Vary field value match those fields in the
    original request".
    """
    return stored.selecting == selecting_values(stored.vary_names, request_headers, policy)


def selecting_values(
    names: tuple[bytes, ...], request_headers: Headers, policy: Policy
) -> tuple[bytes | None, ...]:
    """Return the normalised values of the selecting fields, in the order of `names`.

    Two requests match exactly if their values are equal.
    """
    # Section 4.1: "If (after any normalization that might take place) a header field is absent from
    # a request, it can only match another request if it is also absent there."
    if not names:
        return ()
    return tuple(
        _normalised(name, request_headers.get_all(name), policy)
        if name in request_headers
        else None
        for name in names
    )


def _normalised(name: bytes, lines: tuple[bytes, ...], policy: Policy) -> bytes:
    # Section 4.1 allows "normalizing both header field values in a way that is known to have
    # identical semantics, according to the header field's specification".
    if name == b"accept-encoding":
        short = sum(map(len, lines)) <= _LONGEST_MEMOISED
        return _memoised_encoding(lines) if short else _accept_encoding(lines)
    if name == b"accept-language":
        return _accept_language(lines, any_order=policy.language_order)
    if name == b"cookie":
        # RFC 9113 section 8.2.3: lines of Cookie are joined "using the two-octet delimiter of
        # 0x3b, 0x20"; a comma may be part of a value.
        return b"; ".join(lines)
    return _folded(lines)


def _folded(lines: tuple[bytes, ...]) -> bytes:
    # Section 4.1: "adding or removing whitespace, where allowed in the header field's syntax" and
    # "combining multiple header field lines with the same field name".
    return b",".join(member for line in lines for member in split_members(line)[0])


# --- Accept-Encoding and Accept-Language --------------------------------------------------------

_WHOLE: Final = 1000
_LONGEST_MEMOISED: Final = 200
"""Bytes of the longest value that is memoised."""
_AT_SEMICOLON: Final = re.compile(rb"[ \t]*;[ \t]*")


def _accept_encoding(lines: tuple[bytes, ...]) -> bytes:
    # RFC 9110 section 12.5.3: the weights of the codings count, their order does not. Refused and
    # unknown codings stay in the value, since some applications only look for a name. So each set
    # of codings has one value for each order of preference.
    weights = preference_weights(lines)
    if weights is None:
        return b"?" + _folded(lines)
    return _ranked(weights)


# Nearly every request has this field, with one of few values.
_memoised_encoding = lru_cache(maxsize=512)(_accept_encoding)


def _accept_language(lines: tuple[bytes, ...], *, any_order: bool) -> bytes:
    # RFC 9110 section 12.5.4: language ranges are case-insensitive. "Some recipients treat the
    # order in which language tags are listed as an indication of descending priority", so that the
    # order counts by default.
    weights = preference_weights(lines) if any_order else None
    if weights is None:
        return b"?" + _AT_SEMICOLON.sub(b";", _folded(lines).lower())
    return _ranked(weights)


def _ranked(weights: dict[bytes, int]) -> bytes:
    """Return the names in falling order of weight, such as `a,b>c`, then the refused ones: `!d`."""
    ranks = sorted({weight for weight in weights.values() if weight}, reverse=True)
    groups = [sorted(name for name in weights if weights[name] == rank) for rank in ranks]
    refused = b"".join(b"!" + name for name in sorted(weights) if not weights[name])
    return b">".join(b",".join(group) for group in groups) + refused


def preference_weights(lines: tuple[bytes, ...]) -> dict[bytes, int] | None:
    """Return each name's weight in thousandths, or None when the field does not parse."""
    weights: dict[bytes, int] = {}
    for member in list_members(lines):
        name, semicolon, parameter = member.partition(b";")
        weight = _weight(parameter) if semicolon else _WHOLE
        name = name.rstrip(b" \t").lower()
        if weight is None or not is_token(name) or name in weights:
            return None
        weights[name] = weight
    return weights


def _weight(parameter: bytes) -> int | None:
    # RFC 9110 section 12.4.2: 'weight = OWS ";" OWS "q=" qvalue', with at most three decimals.
    name, _, value = parameter.strip(b" \t").partition(b"=")
    whole, _, fraction = value.partition(b".")
    digits = fraction.isdigit() or not fraction
    if name.lower() != b"q" or whole not in (b"0", b"1") or len(fraction) > 3 or not digits:
        return None
    weight = int(whole) * _WHOLE + int(fraction.ljust(3, b"0"))
    return weight if weight <= _WHOLE else None
