"""The parts of a middleware that its responders share, and the header fields that it adds."""

from typing import TYPE_CHECKING, Final, final

from maxage.asgi.cache_status import CacheStatus, hit_value
from maxage.asgi.identity import Identification
from maxage.asgi.looked_up import noting_lines, unnoted_names
from maxage.asgi.types import ASGIApp, Scope
from maxage.cache.targets import Targets
from maxage.clock import Clock
from maxage.rfc9111.dates import format_http_date
from maxage.rfc9111.decisions import Serve
from maxage.rfc9111.directives import OWN_TARGET
from maxage.rfc9111.message import Headers

if TYPE_CHECKING:
    from maxage.settings import CacheSettings


@final
class Service:
    """Application, settings and targets of one middleware, for the responders of its requests."""

    def __init__(self, app: ASGIApp, settings: "CacheSettings", targets: Targets) -> None:
        self.app: Final = app
        self.settings: Final = settings
        self.targets: Final = targets
        # What each miss asks. To read a setting takes ten times as long as an attribute.
        self.most_key_bytes: Final = settings.cache_max_key_bytes
        self.identification: Final = Identification(settings)
        self.unnoted: Final = unnoted_names(
            self.identification.fields.names, settings.cache_exchange_headers
        )
        """Names of request fields whose lookups make no difference to answers."""
        # RFC 9111 leaves it to the application's Vary, and only Authorization counts there.
        self._notes_lookups: Final = not settings.cache_authorization_only
        self.sends_status: Final = settings.cache_status_header
        """Whether responses get our member of Cache-Status."""
        self.names_key: Final = settings.cache_status_key
        """Whether that tells the key."""
        self.sends_date: bool = settings.cache_send_date is not False
        """Whether responses get their Date from us."""
        self.downstream: Final = _downstream(settings)
        """Lines added to responses whose lifetime comes from our settings alone."""
        self.lifespan_state: Scope = {}
        """What the lifespan put into the state of the scope: all requests share it."""

    def hit_headers(self, decision: Serve, key: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers of a hit."""
        headers = self.stored_headers(decision)
        if self.sends_status:
            value = hit_value(decision.ttl)
            if self.names_key:
                status = CacheStatus(hit=True, ttl=decision.ttl, key=key.decode())
                value = status.header_value()
            headers.append((b"cache-status", value))
        return headers

    def stored_headers(self, decision: Serve) -> list[tuple[bytes, bytes]]:
        """Return the headers of a stored response without our member of Cache-Status."""
        headers = list(decision.headers)
        if not self.sends_date:
            # The server adds its own, and a response has one Date.
            headers = [line for line in headers if line[0].lower() != b"date"]
        if self.downstream and decision.lifetime_is_ours and decision.status != 416:
            headers += self.downstream
        return headers

    def outgoing(self, headers: Headers, clock: Clock) -> list[tuple[bytes, bytes]]:
        """Return the application's headers without fields for this cache alone, and with Date.

        A Date is added where neither the application nor the server does (RFC 9110 section 6.6.1).
        """
        names = headers.outline().at
        kept = list(headers.without(_OWN).raw if OWN_TARGET in names else headers.raw)
        if b"date" not in names and self.sends_date:
            kept.append((b"date", format_http_date(clock())))
        return kept

    def note_lookups(self, scope: Scope, noted: set[bytes]) -> None:
        """Let the header lines of a scope note in `noted` what the application looks up."""
        # The scope of an audit is of a kind of its own, and notes more than names.
        if self._notes_lookups and scope.__class__ is dict:
            scope["headers"] = noting_lines(scope["headers"], self.unnoted, noted)

    def learn_of_server(self, *, adds_date: bool | None) -> None:
        """Learn whether the server adds a Date of its own; None: that is not known."""
        if self.settings.cache_send_date is None:
            self.sends_date = not adds_date


_OWN: Final = frozenset({OWN_TARGET})


def _downstream(settings: "CacheSettings") -> tuple[tuple[bytes, bytes], ...]:
    value = settings.cache_downstream_cache_control.strip()
    return ((b"cache-control", value.encode()),) if value else ()
