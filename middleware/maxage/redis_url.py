"""Store URLs: check them, and show them without passwords."""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from maxage.errors import SettingsError
from maxage.redis_options import check_options, split_authority

_SERVERS = ("redis", "rediss", "valkey", "valkeys")
_GROUPS = {f"{scheme}+{kind}": kind for scheme in _SERVERS for kind in ("cluster", "sentinel")}
SCHEMES = ("redis", "rediss", "unix", "valkey", "valkeys", "memory", *_GROUPS)

# Up to the last @ of the line: a password that is not percent-encoded may have any character.
_CREDENTIALS = re.compile(r"(?<=://)([^\n]*)@")
_NOT_IN_URL = re.compile(r"[\t\r\n]")  # urlsplit drops them too, and with it redis-py
_SECRET_QUERY = re.compile(
    r"(?i)([?&][^=&#\s]*(?:pass|secret|token|auth|keyfile)[^=&#\s]*=)[^&#\s]*"
)
_DEFAULT_PORTS = {"cluster": 6379, "sentinel": 26379}
_TAKES = (
    "it takes redis://, rediss://, unix://, valkey://, valkeys:// and memory:// URLs, and "
    "redis+cluster:// and redis+sentinel:// ones with the same beginnings"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerGroup:
    """The servers that one URL names: nodes of a cluster, or sentinels."""

    kind: Literal["cluster", "sentinel"]
    scheme: str
    """As redis-py spells it: redis or rediss."""
    credentials: str = field(repr=False)
    """The part before the hosts, the @ included."""
    hosts: tuple[tuple[str, int], ...]
    primary_name: str
    """The primary's name for the sentinels; empty for a cluster."""
    database: str
    query: str = field(repr=False)
    """redis-py's options for connections to the data servers."""
    sentinel_options: tuple[tuple[str, str], ...] = field(repr=False)
    """User name and password for the sentinels."""

    def server_url(self, host: str, port: int) -> str:
        """Return the URL of one data server, as redis-py spells it."""
        options = f"?{self.query}" if self.query else ""
        return (
            f"{self.scheme}://{self.credentials}{_authority(host, port)}/{self.database}{options}"
        )

    def sentinel_url(self, host: str, port: int) -> str:
        """Return the URL of one sentinel: the same connection options, its own credentials."""
        own = [(name, value) for name, value in parse_qsl(self.query) if name.startswith("ssl_")]
        own += self.sentinel_options
        options = f"?{urlencode(own)}" if own else ""
        return f"{self.scheme}://{_authority(host, port)}/{options}"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def mask_password(text: str) -> str:
    """Return `text` with three asterisks in place of the password of each URL."""

    def masked(found: re.Match[str]) -> str:
        user = found[1].partition(":")[0] if ":" in found[1] else ""
        return f"{user}:***@"

    return _SECRET_QUERY.sub(r"\1***", _CREDENTIALS.sub(masked, text))


def check_store_url(url: str) -> str:
    """Return `url` without surrounding blanks.

    Raises:
        SettingsError: the URL is invalid; one sentence says why, without the password.
    """
    url = _NOT_IN_URL.sub("", url.strip())
    shown = mask_password(url)
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        raise SettingsError(f"REDIS_URL got {shown!r}; {_TAKES}.")
    try:
        problem = _group_problem(url) if scheme.lower() in _GROUPS else _problem(url)
    except ValueError:
        # The error of urlsplit may quote a part of the password.
        problem = "whose host or port cannot be read"
        hint = " with / ? # @ in a password written as %2F %3F %23 %40"
        raise SettingsError(f"REDIS_URL got {shown!r}, {problem}; {_TAKES}{hint}.") from None
    if problem:
        raise SettingsError(f"REDIS_URL got {shown!r}, {problem}; {_TAKES}.")
    if scheme.lower() != "memory":
        check_options(scheme.lower() + url[len(scheme) :], shown)
    return url


def _problem(url: str) -> str:
    """Return the fault of one server's URL, or nothing; raise ValueError if it is unreadable."""
    parts = urlsplit(url)
    _ = parts.port
    database = parts.path.strip("/")
    if parts.scheme not in _SERVERS:
        return ""
    if not parts.hostname:
        return "which names no host"
    return "whose database is not a number" if database and not database.isdecimal() else ""


def _group_problem(url: str) -> str:
    group = _parse_group(url)
    if not group.hosts or not all(host for host, _ in group.hosts):
        return "which names no host"
    if group.kind == "sentinel" and not group.primary_name:
        return "which lacks the name of the primary after the hosts (as in /mymaster/0)"
    if not (group.database or "0").isdecimal():
        return "whose database is not a number"
    if group.kind == "cluster" and int(group.database or 0):
        return "though a cluster has only database 0"
    return ""


def server_group(url: str) -> ServerGroup | None:
    """Return the servers that a checked URL names; None for a single server."""
    return _parse_group(url) if url.partition("://")[0].lower() in _GROUPS else None


def _parse_group(url: str) -> ServerGroup:
    """Return the parts of the URL, valid or not; raise ValueError if it is unreadable."""
    authority, parts = split_authority(url)
    kind = _GROUPS[parts.scheme]
    credentials, at, hosts = authority.rpartition("@")
    path = parts.path.strip("/")
    name, _, database = path.partition("/") if kind == "sentinel" else ("", "", path)
    options = parse_qsl(parts.query, keep_blank_values=True)
    own = [pair for pair in options if pair[0].startswith("sentinel_")]
    return ServerGroup(
        kind="cluster" if kind == "cluster" else "sentinel",
        scheme=_redis_py_scheme(parts.scheme.partition("+")[0]),
        credentials=credentials + at,
        hosts=tuple(
            _host_and_port(credentials + at + host.strip(), _DEFAULT_PORTS[kind])
            for host in hosts.split(",")
        ),
        primary_name=unquote(name),
        database=database,
        query=urlencode([pair for pair in options if pair not in own]),
        sentinel_options=tuple((key.removeprefix("sentinel_"), value) for key, value in own),
    )


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    parts = urlsplit("//" + text)
    return parts.hostname or "", default if parts.port is None else parts.port


def _redis_py_scheme(scheme: str) -> str:
    return {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme)


def redis_py_url(url: str) -> str:
    """Return the URL as redis-py spells it: Valkey's schemes become Redis' own."""
    scheme, _, rest = url.partition("://")
    return f"{_redis_py_scheme(scheme.lower())}://{rest}"


def server_url(redis_url: str | None) -> str | None:
    """Return the URL of the Redis server; None for the embedded store."""
    if redis_url is None or redis_url.lower().startswith("memory://"):
        return None
    return redis_url
