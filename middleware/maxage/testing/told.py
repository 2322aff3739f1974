"""What a response tells about the cache: its member of Cache-Status, in sentences."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, final

from maxage.asgi.cache_status import own_member
from maxage.explain.advice import advice_for

_NO_STATUS: Final = (
    "It has no Cache-Status of maxage: no CacheMiddleware saw the request. Add it to the "
    "application, use the fixture fresh_cache, and not no_cache."
)


class Answer(Protocol):
    """A response of httpx, of Starlette's TestClient, or of requests."""

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def status_code(self) -> int: ...


@final
@dataclass(frozen=True, slots=True)
class Told:
    """What the cache did with one request."""

    request: str
    """Method and URL; empty where the response does not tell."""
    status: int
    text: str
    """Our member of Cache-Status; empty: there is none."""
    parameters: Mapping[str, str]
    """Those of the member; the value of a flag is empty."""

    @property
    def is_hit(self) -> bool:
        """Whether the application did not answer this request."""
        return "hit" in self.parameters or self.parameters.get("collapsed") == ""

    @property
    def is_miss(self) -> bool:
        """Whether the application answered."""
        return "fwd" in self.parameters and not self.is_hit

    @property
    def name(self) -> str:
        """The request and its answer's status."""
        return f"{self.request or 'The request'} (answered {self.status})"

    def why(self) -> str:
        """Return what Cache-Status says, and what that means."""
        if not self.text:
            return _NO_STATUS
        lines = [f"Cache-Status: {self.text}"]
        lines += advice_for(self.parameters.get("fwd", ""), self.parameters.get("detail", ""))
        if "stored" in self.parameters:
            lines.append("The answer was stored: the next such request is a hit.")
        return "\n".join(lines)


def told_by(response: Answer) -> Told:
    """Return what a response tells."""
    request = getattr(response, "request", None)
    line = f"{request.method} {request.url}" if request is not None else ""
    found = own_member(response.headers.get("cache-status", ""))
    parameters = dict(_parameters(found[1:]))
    return Told(line, response.status_code, "; ".join(found), parameters)


def _parameters(parts: Iterable[str]) -> Iterable[tuple[str, str]]:
    for part in parts:
        name, _, value = part.partition("=")
        yield name, value
