"""Settings: read from keywords, then from the environment, then from `.env`."""

from collections.abc import Hashable
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from maxage.background import runs_asyncio
from maxage.errors import SettingsError
from maxage.redis_options import RedisCredentials
from maxage.redis_url import check_store_url, mask_password
from maxage.zstd import is_available

NameList = Annotated[tuple[str, ...], NoDecode]
"""Header or cookie names; in the environment separated by commas."""


class CacheSettings(BaseSettings):
    """Settings of the cache: each field is an environment variable of the same name in capitals.

    An empty variable is an unset one.

    Durations are seconds, and sizes are bytes. Two more modules read the environment:
    `worker_count` how many workers a server has, `metrics` prometheus-client's own directory.

    Raises:
        SettingsError: a value is wrong; one sentence names the setting and the accepted values.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    # The basics.

    redis_url: str | None = Field(default=None, repr=False)
    """URL of the store: `redis://`, `rediss://`, `unix://`, `valkey://`,
    `valkeys://` or `memory://`; `redis+cluster://HOST:PORT,HOST:PORT` and
    `redis+sentinel://HOST:PORT,HOST:PORT/PRIMARY/0` (the same with `rediss`, `valkey` and
    `valkeys`). Unset or empty: the embedded store of this process."""
    use_redis_cache: bool = True
    """False switches all caching off: nothing is connected, stored or served."""
    cache_expiration: float = Field(default=300.0, ge=0, le=31_536_000, allow_inf_nan=False)
    """Seconds that a plain 200 without freshness information stays fresh. 0: it is not stored."""

    redis_credentials: RedisCredentials | None = Field(default=None, repr=False, exclude=True)
    """Function that returns the password for each new connection to Redis, or user name and
    password, in place of those in the URL; for passwords that change. It is given in code only."""

    # Which responses are stored.

    cache_store_set_cookie: bool = False
    """Whether responses with Set-Cookie and explicit freshness are stored."""
    cache_store_server_errors: bool = False
    """Whether 5xx with explicit freshness are stored."""
    cache_store_client_errors: bool = False
    """Whether 400 to 431 with explicit freshness are stored, whose cause may be a header of one
    request; 404, 405, 410 and 414 always may be."""
    cache_store_partial: bool = False
    """Whether parts (206) are stored, answer ranges, and are completed by a range request."""
    cache_store_post: bool = False
    """Whether a response to POST answers later GETs. It needs explicit freshness and its own URL in
    Content-Location."""
    cache_store_query: bool = False
    """Whether responses to QUERY (RFC 10008) are stored. Their key includes the content."""
    cache_keyed_query: Literal["all", "declared"] = "all"
    """Query parameters in the key: `all`, or only those that the route declares (`declared`)."""
    cache_credential_headers: NameList = (
        "x-api-key", "x-auth-token", "x-token", "x-access-token", "api-key", "x-csrf-token",
        "x-user", "x-user-id", "x-session-token", "x-amz-security-token", "x-client-cert",
        "x-api-token", "x-authorization", "proxy-authorization", "x-session-id",
        # Authenticating proxies name the user in these.
        "x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-access-token",
        "x-forwarded-preferred-username", "x-forwarded-client-cert", "x-auth-request-user",
        "x-auth-request-email", "x-auth-request-access-token", "x-authenticated-user",
        "remote-user", "x-remote-user", "x-webauth-user", "x-ssl-client-cert",
        "x-goog-authenticated-user-email", "x-goog-authenticated-user-id",
        "x-goog-iap-jwt-assertion", "cf-access-authenticated-user-email",
        "cf-access-jwt-assertion", "x-amzn-oidc-identity", "x-amzn-oidc-data",
        "x-amzn-oidc-accesstoken", "x-ms-client-principal", "x-ms-client-principal-id",
        "x-ms-client-principal-name", "x-ms-token-aad-id-token", "tailscale-user-login",
        "x-authentik-username", "x-authentik-email", "x-authentik-uid", "x-auth-user",
        "x-user-name", "x-username", "x-user-email", "x-userinfo", "x-authenticated-userid",
        "x-pomerium-claim-email", "x-pomerium-jwt-assertion", "x-jwt-assertion", "x-id-token",
        "x-consumer-id", "x-consumer-username", "x-consumer-custom-id", "x-credential-identifier",
        "x-appengine-user-email", "x-serverless-authorization", "x-telegram-init-data",
        "client-cert", "ssl-client-cert", "ssl-client-subject-dn", "x-ssl-client-dn",
        "x-ssl-client-s-dn",
        # Keys and tokens of gateways and APIs.
        "apikey", "x-apikey", "x-auth", "x-auth-key", "x-jwt", "x-session", "x-secret",
        "x-user-token", "x-service-token", "x-internal-token", "x-client-secret", "x-app-key",
        "x-functions-key", "x-goog-api-key", "x-rapidapi-key", "x-gitlab-token",
        "x-shopify-access-token", "x-vault-token", "x-hasura-admin-secret", "x-firebase-appcheck",
        "x-csrftoken", "x-xsrf-token", "ocp-apim-subscription-key", "private-token", "access-token",
        "authentication", "dpop", "jwt", "token",
    )  # fmt: skip
    """Request headers that count as credentials, besides Authorization and Cookie."""
    cache_credential_query: NameList = (
        "access_key", "access_token", "activation_code", "activation_key", "activation_token",
        "api_key", "api_secret", "api_token", "app_key", "app_secret", "assertion", "auth",
        "auth_code", "auth_key", "auth_token", "authenticity_token", "authorization",
        "authorization_code", "aws_access_key_id", "backup_code", "bearer", "bearer_token",
        "client_assertion", "client_secret", "code_verifier", "confirmation_code",
        "confirmation_token", "consent_challenge", "consumer_key", "consumer_secret", "credential",
        "credentials", "csrf", "csrf_middleware_token", "csrf_token", "device_code",
        "device_token", "download_token", "email_token", "google_access_id", "hdnea", "hdnts",
        "hmac", "hub.verify_token", "id_token", "id_token_hint", "invitation_token",
        "invite_token", "jsessionid", "jwt", "jwt_token", "key_pair_id", "login_challenge",
        "login_code", "login_token", "logout_challenge", "magic_token", "mfa_code", "nonce",
        "oauth_signature", "oauth_token", "oauth_verifier", "one_time_code", "one_time_token",
        "otp", "otp_code", "passcode", "passphrase", "passwd", "password", "password_reset_token",
        "password_token", "phpsessid", "private_key", "private_token", "pwd", "recovery_code",
        "recovery_token", "refresh_token", "reset_code", "reset_key", "reset_token",
        "saml_request", "saml_response", "sas_token", "secret", "secret_key", "security_token",
        "session_id", "session_key", "session_token", "share_token", "shared_secret", "sid", "sig",
        "signature", "signup_token", "sms_code", "subscription_key", "ticket", "token", "totp",
        "unsubscribe_token", "upload_token", "user_code", "user_key", "user_token",
        "verification_code", "verification_token", "verify_token", "webhook_secret", "wp_nonce",
        "x_access_key", "x_access_token", "x_amz_credential", "x_amz_security_token",
        "x_amz_signature", "x_api_key", "x_auth_token", "x_goog_credential", "x_goog_signature",
        "x_secret_key", "xsrf_token",
    )  # fmt: skip
    """Parameters of queries and paths whose URLs take no default lifetime, since they carry a
    secret. Case, hyphens and underscores do not count; `*` stands for any characters. `code` beside
    `state` always is one."""
    cache_ignored_cookies: NameList = ()
    """Cookies that do not count as credentials, such as those of analytics scripts; `*` stands for
    any characters: `_ga*,_gid`."""
    cache_exchange_headers: NameList = (
        "x-request-id", "x-correlation-id", "x-trace-id", "traceparent", "tracestate",
        "x-amzn-trace-id", "x-b3-traceid", "x-b3-spanid", "x-process-time", "x-response-time",
        "x-runtime", "server-timing", "ratelimit", "ratelimit-policy", "ratelimit-limit",
        "ratelimit-remaining", "ratelimit-reset", "x-ratelimit-limit", "x-ratelimit-remaining",
        "x-ratelimit-reset", "x-rate-limit-limit", "x-rate-limit-remaining",
        "x-rate-limit-reset", "retry-after",
    )  # fmt: skip
    """Response headers that belong to one exchange and are not stored; request headers of these
    names make no difference to answers."""

    # Lifetimes, and stale responses.

    cache_lifetime_jitter: float = Field(default=0.0, ge=0, lt=1)
    """Largest share by which configured lifetimes are shortened at random. Explicit and heuristic
    lifetimes stay as they are."""
    cache_early_refresh: float = Field(default=0.0, ge=0, le=100)
    """Factor (beta of XFetch) of early refreshes: at random, fresh responses are refreshed in the
    background shortly before they expire. 1 is usual. 0: never."""
    cache_stale_while_revalidate: float = Field(default=0.0, ge=0)
    """Seconds that a stale response is served while it is refreshed, unless it states its own."""
    cache_stale_if_error: float = Field(default=0.0, ge=0)
    """Seconds that a stale response replaces an error, unless it states its own."""
    cache_stale_if_slow: float = Field(default=0.0, ge=0, le=300)
    """Seconds until a stale response that may replace an error replaces a slow answer too. The
    application call goes on. 0: never."""
    cache_downstream_cache_control: str = Field(default="", max_length=256, pattern=r"^[ -~]*$")
    """Cache-Control for clients where only the cache gave the lifetime. Empty: none is added."""

    # Writes and their purges.

    cache_purge: Literal["matching", "unproven", "everything"] = "matching"
    """Reads that a write purges, unless they are provably about something else: those of its own
    tree of routes (`matching`) or of all trees (`unproven`); or `everything`, without proof."""
    cache_errors_purge: bool = True
    """Whether a mutating request that ended in 5xx purges: it may have written before it failed."""
    cache_on_lost_purge: Literal["serve", "refuse"] = "serve"
    """`refuse` answers 503 to a mutating request if Redis did not confirm its purge."""
    cache_strict_hold: bool = False
    """Whether the answer of a mutating request, up to `CACHE_MAX_BODY_BYTES`, waits until the
    application call has returned."""
    cache_replica_lag: float = Field(default=0.0, ge=0, le=3600, allow_inf_nan=False)
    """Seconds that a read replica of the application's database may lag behind. For so long after
    its purge, nothing is stored in a group. 0: the application reads no replica."""

    # Limits.

    cache_memory_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Size of the embedded store."""
    cache_pending_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    """Largest memory for bodies that are being copied or wait to be written, together."""
    cache_max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=0)
    """Longer bodies are passed on and not stored."""
    cache_max_header_bytes: int = Field(default=64 * 1024, ge=0)
    """Responses with longer headers are passed on and not stored."""
    cache_max_query_bytes: int = Field(default=64 * 1024, ge=0)
    """A QUERY with longer content is passed on and not stored."""
    cache_max_key_bytes: int = Field(default=8192, ge=64)
    """Requests with a longer URL bypass the cache."""
    cache_max_variants: int = Field(default=64, ge=1, le=4096)
    """Largest number of stored responses of one URL: variants (Vary, RFC 9110 section 12.5.5), and
    values of declared headers and cookies. The one stored first makes room."""
    cache_max_tags: int = Field(default=32, ge=0, le=1024)
    """Responses with more tags are not stored."""
    cache_collapse_wait: float = Field(default=5.0, ge=0, le=300)
    """Seconds that a request waits for another one that fetches the same response. 0: never."""

    # Redis.

    cache_namespace: str = Field(
        default="maxage", min_length=1, max_length=64, pattern=r"^[\w.:-]+$"
    )
    """Prefix of every key. Applications that share a Redis database need different ones."""
    cache_release: str = Field(default="", max_length=64)
    """Release tag: responses of other releases are not found. Purges reach all releases."""
    cache_secret: SecretStr | None = None
    """Secret key of the checksum of stored responses: without it, none can be planted in Redis."""
    cache_compress: bool = False
    """Whether bodies of 1 KB and more lie compressed in the store (zstd), and are sent like that to
    clients that accept it. It needs Python 3.14 or the extra `zstd`."""
    cache_read_budget: float = Field(default=0.05, gt=0, le=10)
    """Seconds for all reads of one request together."""
    cache_connect_budget: float = Field(default=0.5, gt=0, le=10)
    """Seconds that making a connection may take: DNS, TCP, TLS, authentication. Only the first
    requests of a process wait that long."""
    cache_write_budget: float = Field(default=0.1, gt=0, le=10)
    """Seconds for which a purge may delay the answer of its request."""

    # The near cache.

    cache_near_bytes: int = Field(default=0, ge=0)
    """Memory for ready-to-send copies of stored responses in each process, in front of Redis. 0: no
    near cache."""
    cache_near: Literal["exact", "prompt"] = "exact"
    """Promise of the near cache: no answer is older than an acknowledged write (`exact`), or by at
    most 100 ms (`prompt`)."""

    # Figures.

    cache_insight: bool = False
    """Whether each worker counts its most asked URLs and their cost, and publishes its figures in
    Redis every 5 seconds, with its last requests: for `maxage stats`, `top`, `simulate` and the
    page."""

    # Before it is switched on.

    cache_audit: bool = False
    """Whether the application answers every GET, and is told of each input of an answer that is not
    in its key."""
    cache_audit_ignored: NameList = ()
    """Inputs that make no difference to answers, as the audit names them: `client`,
    `header:user-agent`; `*` stands for any characters."""
    cache_lint_ignore: NameList = ()
    """Codes that `maxage lint` does not tell, such as `MX101`."""
    cache_shadow: bool = False
    """Whether the application answers every GET, while the cache fills and compares what it would
    have answered."""
    cache_verify: float = Field(default=0.0, ge=0, le=1)
    """Share of GETs that the application answers and the cache compares: 0.001 is one in 1000."""

    # Standards.

    cache_status_header: bool = True
    """Whether responses carry Cache-Status (RFC 9211)."""
    cache_status_key: bool = False
    """Whether Cache-Status names the key."""
    cache_send_date: bool | None = None
    """Whether the middleware adds Date. Unset: only if the server adds none, or can be kept from
    it. False leaves it to the server."""
    cache_obey_request_directives: bool = True
    """False ignores the Cache-Control of requests, for untrusted clients."""
    cache_authorization_only: bool = False
    """Whether only Authorization counts as credentials, as RFC 9111 says."""
    cache_heuristic_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of the time since Last-Modified that counts as fresh. 0: no heuristic."""
    cache_language_order: bool = False
    """Whether variants are chosen by Accept-Language regardless of the order of its members."""
    cache_language_select: bool = False
    """Whether a variant answers if its Content-Language is the one that Accept-Language prefers."""

    def __init__(self, **values: Any) -> None:
        fields = type(self).model_fields
        # Keywords that begin with _ are pydantic-settings' own, such as _env_file.
        unknown = [name for name in values if name not in fields and name[:1] != "_"]
        if unknown:
            # Unknown variables are ignored, unknown keywords are mistakes.
            raise SettingsError(" ".join(map(_unknown, unknown)))
        # The environment has no functions, and the name may be another program's.
        values.setdefault("redis_credentials", None)
        if values.get("_env_file", "") is None:
            values["_env_file"] = ()  # No file, as pydantic-settings says; not even `.env`.
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_sentence(error)) from None
        except (OSError, UnicodeDecodeError) as error:
            # Raised as it is, it would be taken for "no lifespan here", and fail each request.
            raise SettingsError(f".env cannot be read: {error}. It is a text in UTF-8.") from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of the values, the strongest first."""
        names_file = getattr(dotenv_settings, "env_file", None) is not None
        file = dotenv_settings if names_file else _dotenv(settings_cls)
        return init_settings, env_settings, file, file_secret_settings

    @classmethod
    def standards(cls, **values: Any) -> Self:
        """Return settings for all that RFC 9111 allows; some are no safe defaults for an API."""
        preset: dict[str, Any] = {
            "cache_expiration": 0,
            "cache_heuristic_fraction": 0.1,
            "cache_store_set_cookie": True,
            "cache_store_server_errors": True,
            "cache_store_query": True,
            "cache_store_post": True,
            "cache_store_partial": True,
            "cache_store_client_errors": True,
            "cache_stale_if_error": 86_400,
            "cache_errors_purge": False,
            "cache_authorization_only": True,
            "cache_language_order": True,
            "cache_language_select": True,
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

    @field_validator("redis_credentials", mode="after")
    @classmethod
    def _plain_function(cls, value: RedisCredentials | None) -> RedisCredentials | None:
        if iscoroutinefunction(value) or not isinstance(value, Hashable):
            got, takes = type(value).__name__, _TAKES["redis_credentials"]
            raise SettingsError(f"REDIS_CREDENTIALS got {got}; it takes {takes}.")
        return value

    @field_validator("cache_compress", mode="after")
    @classmethod
    def _has_zstd(cls, value: bool) -> bool:
        if value and not is_available():
            raise SettingsError(
                "CACHE_COMPRESS needs Python 3.14, or a package: pip install 'maxage[zstd]'."
            )
        return value

    @field_validator(
        "cache_ignored_cookies", "cache_credential_headers", "cache_credential_query",
        "cache_exchange_headers", "cache_audit_ignored", "cache_lint_ignore", mode="before",
    )  # fmt: skip
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


_dotenv_of: dict[type[BaseSettings], PydanticBaseSettingsSource] = {}


def _dotenv(settings_class: type[BaseSettings]) -> PydanticBaseSettingsSource:
    """Return what `.env` says; in an event loop, where reading would block, what it said last."""
    if settings_class not in _dotenv_of or not runs_asyncio():
        _dotenv_of[settings_class] = DotEnvSettingsSource(settings_class, env_file=".env")
    return _dotenv_of[settings_class]


# Frameworks make the middleware in the event loop. A file that cannot be read is told of there.
with suppress(OSError, ValueError):
    _dotenv(CacheSettings)

_TAKES = {
    "redis_url": "a URL that begins with redis://, rediss://, unix://, valkey://, valkeys://, "
    "memory://, redis+cluster:// or redis+sentinel://",
    "redis_credentials": "a plain function, not an async one, that returns a password, or user "
    "name and password; each connection calls it in a thread",
    "use_redis_cache": "true or false",
    "cache_expiration": "a number of seconds from 0 to 31536000",
    "cache_namespace": "1 to 64 letters, digits and _ . : -",
}
_SECRET = frozenset({"redis_url", "redis_credentials", "cache_secret"})


def _unknown(name: str) -> str:
    """Return the message about an unknown keyword."""
    from difflib import get_close_matches  # noqa: PLC0415 - a start without mistakes needs it not

    near = get_close_matches(name.lower(), CacheSettings.model_fields, n=1)
    meant = f"did you mean {near[0]}?" if near else "docs/settings.md lists them."
    return f"CacheSettings has no setting {name!r}; {meant}"


def _sentence(error: ValidationError) -> str:
    """Return one sentence for each wrong value: its name, the value, the accepted values."""
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
