"""The explanation of one request, as frozen values; `str()` is for people, `as_dict` for JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["hit", "miss", "bypass", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteShown:
    """The route that answers the request."""

    template: str
    methods: tuple[str, ...]
    """Empty: all methods."""
    endpoint: str
    """Name of the function or class; empty where it is not known."""
    source: str
    """File and line of the endpoint, such as `app/items.py:40`; empty where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the policy, or of the key, and where it comes from."""

    name: str
    value: str
    source: str
    """A decorator, a rule, a setting or the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """One group of the response, with the token that it was stored under and the current one."""

    group: str
    stored: str | None
    """None: nothing is stored, or not in this group."""
    current: str | None
    """None: there is none; the next lookup creates one."""

    @property
    def fits(self) -> bool:
        """Whether the stored token is the current one."""
        return self.stored is not None and self.stored == self.current


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredShown:
    """The response that is stored under the request's key, valid or not; seconds and bytes."""

    key: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body_bytes: int
    age: float
    lifetime: float
    ttl: float
    """Seconds of freshness left; negative: stale."""
    lifetime_from: str
    """`response` or `policy`."""
    vary: tuple[str, ...]
    """Names of the request headers that select it."""
    variants: int
    """Variants of the URL that are stored, by its index; 0: it does not vary."""
    valid: bool
    """Whether all its tokens are current."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """A possible response of the application to this request, and whether it would be stored."""

    response: str
    stored_for: float | None
    """Seconds for which it would be fresh; None: it would not be stored."""
    reason: str
    """Why it would not be stored; empty otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a request would be a hit, a miss or a bypass, or the groups that it would purge."""

    request: str
    """Method and URL."""
    outcome: Outcome
    reason: str
    """The word of Cache-Status: of `fwd`, or of `detail` at a bypass; `hit` and `method` else."""
    because: str
    """The reason in one sentence."""
    route: RouteShown | None
    policy: tuple[Part, ...] = ()
    key: str = ""
    key_parts: tuple[Part, ...] = ()
    """The parts of the key besides the URL."""
    credentials: str = ""
    """The kind of credentials that the request carries; empty: none."""
    groups: tuple[GroupState, ...] = ()
    stored: StoredShown | None = None
    last_refusal: str = ""
    """The Cache-Control by which the last response forbade storing, as this process knows it."""
    prospects: tuple[Prospect, ...] = ()
    purges: tuple[Part, ...] = ()
    """The groups that a mutating request purges: name, meaning and cause."""
    purged_reads: tuple[str, ...] = ()
    """The templates of the reads that it purges."""
    changes: tuple[str, ...] = ()
    """Changes that would make the next such request a hit, and other hints."""

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as values that JSON knows."""
        return asdict(self)

    def __str__(self) -> str:
        from maxage.explain.text import text_of  # noqa: PLC0415 - it needs this class

        return text_of(self)
