"""Store URLs: what is accepted, and how they are shown without their passwords."""

import re
from urllib.parse import urlsplit

from maxage.errors import SettingsError

SCHEMES = ("redis", "rediss", "unix", "valkey", "valkeys", "memory")

# Up to the last @ of the line: a password that was not percent-encoded may hold any character.
_CREDENTIALS = re.compile(r"(?<=://)([^\n]*)@")
_NOT_IN_URL = re.compile(r"[\t\r\n]")  # urlsplit, and so redis-py, drops them too
_PASSWORD_QUERY = re.compile(r"(?i)([?&](?:password|ssl_password|ssl_keyfile)=)[^&#\s]*")


def mask_password(text: str) -> str:
    """Return `text` with the password of every URL in it replaced by three asterisks."""

    def masked(found: re.Match[str]) -> str:
        user = found[1].partition(":")[0] if ":" in found[1] else ""
        return f"{user}:***@"

    return _PASSWORD_QUERY.sub(r"\1***", _CREDENTIALS.sub(masked, text))


def check_store_url(url: str) -> str:
    """Return `url` without surrounding blanks.

    Raises:
        SettingsError: it cannot be right; one sentence says why, without its password.
    """
    url = _NOT_IN_URL.sub("", url.strip())
    takes = "it takes " + ", ".join(f"{scheme}://" for scheme in SCHEMES) + " URLs"
    shown = mask_password(url)
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        raise SettingsError(f"REDIS_URL got {shown!r}; {takes}.")
    try:
        parts = urlsplit(url)
        _ = parts.port
        database = parts.path.strip("/")
    except ValueError:
        # What urlsplit says may quote a part of the password.
        raise SettingsError(
            f"REDIS_URL got {shown!r}, whose host or port cannot be read; {takes}"
            " with / ? # @ in a password written as %2F %3F %23 %40."
        ) from None
    if scheme.lower() in {"redis", "rediss", "valkey", "valkeys"}:
        if not parts.hostname:
            raise SettingsError(f"REDIS_URL got {shown!r}, which names no host; {takes}.")
        if database and not database.isdecimal():
            raise SettingsError(
                f"REDIS_URL got {shown!r}, whose database is not a number; {takes}."
            )
    return url


def redis_py_url(url: str) -> str:
    """Return the URL as redis-py spells it: Valkey's schemes are Redis' own."""
    scheme, _, rest = url.partition("://")
    return (
        {"valkey": "redis", "valkeys": "rediss"}.get(scheme.lower(), scheme.lower()) + "://" + rest
    )


def server_url(redis_url: str | None) -> str | None:
    """Return the URL of the Redis server; None where values lie in the embedded store."""
    if redis_url is None or redis_url.lower().startswith("memory://"):
        return None
    return redis_url
