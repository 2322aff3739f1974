"""The settings, read from keywords, the environment and `.env`, in that order."""

import os
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from maxage.errors import SettingsError
from maxage.redis_url import check_store_url, mask_password

NameList = Annotated[tuple[str, ...], NoDecode]
"""Header or cookie names; in the environment separated by commas."""


class CacheSettings(BaseSettings):
    """Everything that can be set; each field is also an environment variable in upper case.

    Durations are seconds, sizes bytes, unless the name says otherwise.

    Raises:
        SettingsError: a value cannot be right; one sentence says which, and what is accepted.
    """

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    redis_url: str | None = Field(default=None, repr=False)
    """Where the stored responses are kept: `redis://`, `rediss://`, `unix://`, `valkey://`,
    `valkeys://` or `memory://`; `redis+cluster://HOST:PORT,HOST:PORT` and
    `redis+sentinel://HOST:PORT,HOST:PORT/PRIMARY/0` (the same with `rediss`, `valkey` and
    `valkeys`). Unset or empty: the embedded store of this process."""
    use_redis_cache: bool = True
    """False switches all caching off: no connection is opened, nothing is stored or served."""
    cache_expiration: float = Field(default=300.0, ge=0, le=31_536_000, allow_inf_nan=False)
    """Seconds that a plain 200 without freshness information stays fresh. 0: it is not stored."""

    cache_namespace: str = Field(
        default="maxage", min_length=1, max_length=64, pattern=r"^[\w.:-]+$"
    )
    """Prefix of every key. Applications which share a Redis database need different ones."""
    cache_release: str = Field(default="", max_length=64)
    """A release tag; responses stored under another tag are not found. Purges reach all tags."""
    cache_secret: SecretStr | None = None
    """Keys the checksum of stored responses, so that nobody without it can plant one."""

    cache_read_budget: float = Field(default=0.05, gt=0, le=10)
    """Seconds that all reads of one request may take together."""
    cache_write_budget: float = Field(default=0.1, gt=0, le=10)
    """Seconds that the purge of one request may hold back its answer."""
    cache_collapse_wait: float = Field(default=5.0, ge=0, le=300)
    """Seconds a request waits for another one that is fetching the same response. 0: never."""

    cache_memory_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Size of the embedded store."""
    cache_pending_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Memory held at most by bodies which are being copied or wait to be written."""
    cache_max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=0)
    """Longer bodies are passed on and not stored."""
    cache_max_header_bytes: int = Field(default=64 * 1024, ge=0)
    """Responses with longer headers are passed on and not stored."""
    cache_max_variants: int = Field(default=64, ge=1, le=4096)
    """Variants (RFC 9110 section 12.5.5, Vary) kept of one URL."""
    cache_max_key_bytes: int = Field(default=8192, ge=64)
    """Requests with a longer URL bypass the cache."""
    cache_max_tags: int = Field(default=32, ge=0, le=1024)
    """Tags of one response; a response with more is not stored."""

    near_cache_bytes: int = Field(default=0, ge=0)
    """Memory for ready-to-send responses in the process. 0: none."""
    near_cache: Literal["exact", "prompt"] = "exact"
    """`exact` keeps the whole contract; `prompt` may lag by one message under way."""
    on_lost_purge: Literal["serve", "refuse"] = "serve"
    """`refuse` answers 503 to a mutating request whose purge could not be confirmed."""
    cache_strict_hold: bool = False
    """True holds the answer of a mutating request until the application call has returned."""

    replica_lag: float = Field(default=0.0, ge=0, le=3600, allow_inf_nan=False)
    """Seconds that a read replica of the application's database may lag behind: for so long after
    its purge nothing is stored in a group. 0: it is read from where it is written."""

    cache_status_header: bool = True
    """Whether responses carry Cache-Status (RFC 9211)."""
    cache_status_key: bool = False
    """Whether Cache-Status names the key."""
    send_date: bool | None = None
    """Whether the middleware adds Date. None: yes, unless the server adds its own."""
    obey_request_directives: bool = True
    """False ignores the Cache-Control of requests, for deployments with untrusted clients."""
    keyed_query: Literal["all", "declared"] = "all"
    """`declared` leaves query parameters that the route does not declare out of the key."""
    ignored_cookies: NameList = ()
    """Cookies which do not count as credentials, such as those of analytics scripts."""
    credential_headers: NameList = (
        "x-api-key", "x-auth-token", "x-token", "x-access-token", "api-key", "x-csrf-token",
        "x-user", "x-user-id", "x-session-token", "x-amz-security-token", "x-client-cert",
        "x-api-token", "x-authorization", "proxy-authorization", "x-session-id",
        # How proxies that authenticate name the user to the application behind them.
        "x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-access-token",
        "x-forwarded-preferred-username", "x-forwarded-client-cert", "x-auth-request-user",
        "x-auth-request-email", "x-auth-request-access-token", "x-authenticated-user",
        "remote-user", "x-remote-user", "x-webauth-user", "x-ssl-client-cert",
        "x-goog-authenticated-user-email", "x-goog-authenticated-user-id",
        "x-goog-iap-jwt-assertion", "cf-access-authenticated-user-email",
        "cf-access-jwt-assertion", "x-amzn-oidc-identity", "x-amzn-oidc-data",
        "x-amzn-oidc-accesstoken", "x-ms-client-principal", "x-ms-client-principal-id",
        "x-ms-client-principal-name", "x-ms-token-aad-id-token", "tailscale-user-login",
    )  # fmt: skip
    """Request headers which count as credentials, besides Authorization and Cookie."""
    exchange_headers: NameList = (
        "x-request-id", "x-correlation-id", "x-trace-id", "traceparent", "tracestate",
        "x-amzn-trace-id", "x-b3-traceid", "x-b3-spanid", "x-process-time", "x-response-time",
        "x-runtime", "server-timing", "ratelimit", "ratelimit-policy", "ratelimit-limit",
        "ratelimit-remaining", "ratelimit-reset", "x-ratelimit-limit", "x-ratelimit-remaining",
        "x-ratelimit-reset", "x-rate-limit-limit", "x-rate-limit-remaining",
        "x-rate-limit-reset", "retry-after",
    )  # fmt: skip
    """Response headers which belong to one exchange and are not stored."""

    heuristic_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of the time since Last-Modified that counts as fresh; 0: no heuristic."""
    stale_while_revalidate: float = Field(default=0.0, ge=0)
    """Seconds a stale response is served while it is refreshed, where it does not say itself."""
    stale_if_error: float = Field(default=0.0, ge=0)
    """Seconds a stale response replaces an error, where it does not say itself."""
    stale_if_slow: float = Field(default=0.0, ge=0, le=300)
    """Seconds the application has before a stale response that may answer for an error answers
    instead; the application call goes on. 0: as long as it takes."""
    early_refresh: float = Field(default=0.0, ge=0, le=100)
    """Factor (beta of XFetch) by which fresh responses are refreshed before they expire, in the
    background and at random; 1 is the usual one. 0: never."""
    lifetime_jitter: float = Field(default=0.0, ge=0, lt=1)
    """Share by which configured lifetimes are shortened at random, at most. Explicit and heuristic
    ones are left alone."""
    downstream_cache_control: str = Field(default="", max_length=256, pattern=r"^[ -~]*$")
    """Cache-Control that clients get where the lifetime was only ours. Empty: none is added."""
    store_set_cookie: bool = False
    """Whether responses with Set-Cookie and explicit freshness are stored."""
    store_server_errors: bool = False
    """Whether 5xx with explicit freshness are stored."""
    cache_query: bool = False
    """Whether answers to QUERY (RFC 10008) are stored, under a key that holds the content."""
    cache_max_query_bytes: int = Field(default=64 * 1024, ge=0)
    """A QUERY with longer content is passed on and not stored."""
    store_post: bool = False
    """Whether an answer to POST that is about its own URL (Content-Location), with explicit
    freshness, answers later GETs."""
    store_partial: bool = False
    """Whether parts (206) are stored, answer ranges, and are completed with a range request."""
    store_client_errors: bool = False
    """Whether 400 to 431 with explicit freshness, but for 404, 405, 410 and 414 which always may,
    are stored."""
    errors_purge: bool = True
    """Whether a mutating request that ended in 5xx purges (the fate of its write is unknown)."""
    authorization_only: bool = False
    """Whether only Authorization counts as credentials, as RFC 9111 says."""
    language_order: bool = False
    """Whether a variant is chosen by Accept-Language whatever the order of its members."""

    language_select: bool = False
    """Whether a variant answers whose Content-Language is what Accept-Language prefers."""

    def __init__(self, **values: Any) -> None:
        fields = type(self).model_fields
        # What begins with _ is for pydantic-settings: _env_file.
        unknown = [name for name in values if name not in fields and name[:1] != "_"]
        if unknown:
            # Variables that are not ours stand in every environment; keywords are meant for us.
            raise SettingsError(" ".join(map(_unknown, unknown)))
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_sentence(error)) from None

    @classmethod
    def standards(cls, **values: Any) -> Self:
        """Return settings that do all RFC 9111 allows, some of it no safe default for an API."""
        preset: dict[str, Any] = {
            "cache_expiration": 0,
            "heuristic_fraction": 0.1,
            "store_set_cookie": True,
            "store_server_errors": True,
            "cache_query": True,
            "store_post": True,
            "store_partial": True,
            "store_client_errors": True,
            "stale_if_error": 86_400,
            "errors_purge": False,
            "authorization_only": True,
            "language_order": True,
            "language_select": True,
        }
        return cls(**(preset | values))

    @field_validator("redis_url", mode="before")
    @classmethod
    def _known_scheme(cls, value: object) -> object:
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            return check_store_url(value) if value.strip() else None
        return value

    @field_validator("ignored_cookies", "credential_headers", "exchange_headers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    def __hash__(self) -> int:
        """Hash by value: equal settings share their stores."""
        return hash(tuple(self.__dict__.values()))

    @property
    def safe_redis_url(self) -> str | None:
        """The URL with its password masked, for logs and messages."""
        return None if self.redis_url is None else mask_password(self.redis_url)


def settings_from_environment() -> CacheSettings:
    """Return the settings of the environment as it is now, read anew only when it changed."""
    return _read_settings(tuple(os.environ.get(name) for name in _ENVIRONMENT))


@lru_cache(maxsize=8)
def _read_settings(environment: tuple[str | None, ...]) -> CacheSettings:
    del environment
    return CacheSettings()


_ENVIRONMENT = tuple(name.upper() for name in CacheSettings.model_fields)

_TAKES = {
    "redis_url": "a URL that begins with redis://, rediss://, unix://, valkey://, valkeys://, "
    "memory://, redis+cluster:// or redis+sentinel://",
    "use_redis_cache": "true or false",
    "cache_expiration": "a number of seconds from 0 to 31536000",
    "cache_namespace": "1 to 64 letters, digits and _ . : -",
}
_SECRET = frozenset({"redis_url", "cache_secret"})


def _unknown(name: str) -> str:
    """Return one sentence about a keyword that is no setting."""
    near = get_close_matches(name.lower(), CacheSettings.model_fields, n=1)
    meant = f"did you mean {near[0]}?" if near else "the README lists what there is."
    return f"CacheSettings got {name!r}, which is no setting; {meant}"


def _sentence(error: ValidationError) -> str:
    """Return one sentence per wrong value: which, what it got, what it takes."""
    complaints: list[str] = []
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else "settings"
        complaints.append(_complaint(name, item["msg"], item))
    return " ".join(complaints)


def _complaint(name: str, message: str, item: Any) -> str:
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, SettingsError):
        return str(cause)
    takes = _TAKES.get(name) or _taken(message)
    shown = type(item.get("input")).__name__ if name in _SECRET else repr(str(item.get("input")))
    return f"{name.upper()} got {mask_password(shown)}; it takes {takes}."


def _taken(message: str) -> str:
    """Return pydantic's "Input should be a ..." as the end of "it takes ..."."""
    for beginning in ("Input should be ", "Value should have ", "String should "):
        message = message.removeprefix(beginning)
    if message.startswith(("greater", "less")):
        message = "a number " + message
    return message[0].lower() + message[1:].removesuffix(".")
