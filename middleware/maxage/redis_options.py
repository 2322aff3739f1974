"""The options behind the `?` of a store URL: what redis-py would make of them, checked beforehand.

Some belong to every connection, some to the clients of `get_redis` alone, and some are set by this
library: they are ignored. All others are refused.
"""

import codecs
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import SplitResult, parse_qsl, urlsplit

from maxage.errors import SettingsError

OptionValue: TypeAlias = str | int | bool | list[ssl.VerifyFlags]
Options: TypeAlias = dict[str, OptionValue]

RedisCredentials: TypeAlias = Callable[[], str | tuple[str, str]]
"""Returns the password for a new connection, or user name and password."""

logger = logging.getLogger("maxage")

_OURS: Final = frozenset({
    "protocol", "retry", "retry_on_error", "retry_on_timeout", "socket_connect_timeout",
    "socket_timeout", "timeout",
})  # fmt: skip
"""Set by this library: its budgets hold only with its own protocol, time-outs and retries."""


_UNREADABLE: Final = (
    "whose options cannot be read; it takes / ? # @ in a password written as %2F %3F %23 %40"
)


def _number(value: str) -> int:
    if not (value.isascii() and value.isdecimal()):
        raise ValueError(value)
    return int(value)


def _positive(value: str) -> int:
    if not (number := _number(value)):
        raise ValueError(value)
    return number


def _switch(value: str) -> bool:
    if value.lower() in {"true", "yes", "on", "1", "t", "y"}:
        return True
    if value.lower() in {"false", "no", "off", "0", "f", "n"}:
        return False
    raise ValueError(value)


def _word(value: str) -> str:
    """Return the text of a name: CLIENT SETNAME takes no blanks and no control characters."""
    if not value or any(not "!" <= letter <= "~" for letter in value):
        raise ValueError(value)
    return value


def _encoding(value: str) -> str:
    if "AZ09".encode(value) != b"AZ09":
        raise ValueError(value)
    return value


def _error_handler(value: str) -> str:
    codecs.lookup_error(value)
    return value


def _cert_reqs(value: str) -> str:
    if value not in {"none", "optional", "required"}:
        raise ValueError(value)
    return value


def _tls_version(value: str) -> int:
    return ssl.TLSVersion(_number(value)).value


def _verify_flags(value: str) -> list[ssl.VerifyFlags]:
    return [ssl.VerifyFlags[name.strip()] for name in value.strip("[]").split(",")]


Parser: TypeAlias = tuple[Callable[[str], OptionValue], str]
"""Returns the value, or raises ValueError or LookupError; and what it takes."""
_ANY: Final[Parser] = (str, "a text")
_BOOL: Final[Parser] = (_switch, "true or false")
_FLAGS: Final[Parser] = (_verify_flags, "names of ssl.VerifyFlags, separated by commas")

_CONNECTION: Final[dict[str, Parser]] = {
    "db": (_number, "the number of a database"),
    "username": _ANY,
    "password": _ANY,
    "client_name": (_word, "a name without blanks"),
    "socket_keepalive": _BOOL,
    "socket_read_size": (_positive, "a number of bytes"),
}
_TLS: Final[dict[str, Parser]] = {
    "ssl_ca_certs": _ANY,
    "ssl_ca_path": _ANY,
    "ssl_ca_data": _ANY,
    "ssl_certfile": _ANY,
    "ssl_keyfile": _ANY,
    "ssl_password": _ANY,
    "ssl_cert_reqs": (_cert_reqs, "none, optional or required"),
    "ssl_check_hostname": _BOOL,
    "ssl_min_version": (_tls_version, "771 (TLS 1.2) or 772 (TLS 1.3)"),
    "ssl_ciphers": _ANY,
    "ssl_include_verify_flags": _FLAGS,
    "ssl_exclude_verify_flags": _FLAGS,
}
_CLIENT: Final[dict[str, Parser]] = {
    "max_connections": (_positive, "a number from 1 upward"),
    "health_check_interval": (_number, "a number of seconds"),
    "decode_responses": _BOOL,
    "encoding": (_encoding, "the name of an encoding with ASCII in it, such as utf-8"),
    "encoding_errors": (_error_handler, "strict, replace or another error handler of Python"),
    "legacy_responses": _BOOL,
}
"""For `get_redis` and `get_async_redis` alone: the store reads and writes bytes."""
_SENTINEL: Final[dict[str, Parser]] = {"sentinel_username": _ANY, "sentinel_password": _ANY}
_KNOWN: Final = _CONNECTION | _TLS | _CLIENT | _SENTINEL
_NOT_ON_CLUSTER: Final = frozenset({
    "health_check_interval", "ssl_ca_path", "ssl_ciphers", "ssl_min_version", "ssl_password",
})  # fmt: skip
"""Options that one of redis-py's two clients of a cluster would drop without a word."""


def connection_options(url: str) -> Options:
    """Return the options that belong to every connection of a checked URL."""
    return _values(url, _CONNECTION | _TLS)


def client_options(url: str) -> Options:
    """Return the options for the clients of `get_redis` alone of a checked URL."""
    return _values(url, _CLIENT)


def split_authority(url: str) -> tuple[str, SplitResult]:
    """Return credentials and hosts of a URL, and its other parts.

    `urlsplit` refuses `a,[::1]`, two hosts, in newer Pythons and patched older ones.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    return authority, urlsplit(f"{scheme}://{rest[len(authority) :]}")


def _values(url: str, parsers: Mapping[str, Parser]) -> Options:
    given = parse_qsl(split_authority(url)[1].query)
    return {name: parsers[name][0](value) for name, value in given if name in parsers}


def check_options(url: str, shown: str) -> None:
    """Check the options of a URL; log once which of them are ignored.

    Args:
        url: the URL, its scheme in small letters.
        shown: the URL without passwords.

    Raises:
        SettingsError: an option is unknown, or has a wrong value.
    """
    _, parts = split_authority(url)
    given = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in given]
    for name, value in given:
        problem = _problem(parts.scheme, name, value)
        if names.count(name) > 1:
            problem = f"which names the option {name} twice; it takes each once"
        if problem:
            # Where an @ follows, the names and values may be parts of a password.
            said = _UNREADABLE if "@" in parts.query else problem
            raise SettingsError(f"REDIS_URL got {shown!r}, {said}.")
    tls = _values(url, _TLS)
    if tls and (problem := _tls_problem(tls)):
        raise SettingsError(f"REDIS_URL got {shown!r}, {problem}.")
    if ignored := sorted(_OURS.intersection(names)):
        _warn_ignored(shown, " and ".join(ignored))


def _problem(scheme: str, name: str, value: str) -> str:
    """Return the fault of one option, or nothing."""
    if name in _OURS:
        return ""
    if name not in _KNOWN:
        return f"whose option {name} is not known; {_accepted(name)}"
    if place := _wrong_place(scheme, name):
        return place
    parse, takes = _KNOWN[name]
    try:
        parsed = parse(value)
    except (ValueError, LookupError):
        parsed = ""
    if parsed == "":
        return f"whose option {name} got {value!r}; it takes {takes}"
    if name == "db" and parsed and scheme.endswith("+cluster"):
        return "though a cluster has only database 0; it takes no other"
    return ""


def _wrong_place(scheme: str, name: str) -> str:
    """Return why URLs of this scheme do not have the option, or nothing."""
    server, _, kind = scheme.partition("+")
    if name in _SENTINEL and kind != "sentinel":
        return f"whose option {name} is for sentinels; it takes it with redis+sentinel://"
    if name in _TLS and server not in {"rediss", "valkeys"}:
        return f"whose option {name} is for TLS; it takes it with rediss:// and valkeys://"
    if name == "socket_keepalive" and server == "unix":
        return f"whose option {name} is for TCP; it takes it for other servers"
    if name in _NOT_ON_CLUSTER and kind == "cluster":
        return f"whose option {name} cannot be had on a cluster; it takes it for other servers"
    return ""


def _accepted(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - a start without mistakes needs it not

    near = get_close_matches(name, _KNOWN, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}it takes {', '.join(_KNOWN)}"


def _tls_problem(options: Options) -> str:
    """Return why no TLS context can be made with the options, or nothing."""

    def text(name: str) -> str | None:
        value = options.get(name)
        return value if isinstance(value, str) else None

    context = ssl.create_default_context()
    try:
        certificate, key = text("ssl_certfile"), text("ssl_keyfile")
        if certificate or key:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate or "", key, text("ssl_password") or "")
        ca = (text("ssl_ca_certs"), text("ssl_ca_path"), text("ssl_ca_data"))
        if any(ca):
            context.load_verify_locations(*ca)
        context.set_ciphers(text("ssl_ciphers") or "DEFAULT")
    except (OSError, ValueError) as error:
        named = [name for name in options if name.startswith(("ssl_c", "ssl_k", "ssl_p"))]
        why = getattr(error, "strerror", None) or str(error)
        return (
            f"whose {' and '.join(named)} cannot be used ({why}); it takes files that can be read"
        )
    return ""


@lru_cache(maxsize=64)
def _warn_ignored(shown: str, names: str) -> None:
    """Say once for a URL which of its options are ignored."""
    logger.warning(
        "REDIS_URL %s: ignored %s, since the cache sets protocol, time-outs and retries itself; "
        "CACHE_READ_BUDGET and CACHE_WRITE_BUDGET say how long Redis may take.",
        shown,
        names,
    )
