"""Default lifetime: the URLs that `CACHE_EXPIRATION` does not apply to.

A probe asks for the state of this moment. A secret in a query or path makes the URL one client's
own, and may be good for one request.
Operations, such as those of GraphQL, show what any write may change, and tell errors with status
200. A lifetime that the response, a decorator or a rule states holds for them too.
"""

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final, final
from urllib.parse import unquote_to_bytes

from maxage.routing.operations import is_operations_word
from maxage.routing.template import PARAMETER

_PROBE: Final = re.compile(
    r"_{0,2}(?:health(?:z|[-_]?checks?)?|(?:lb)?heartbeat|livez|readyz|startupz"
    r"|(?:liveness|readiness|startup)[-_]?(?:check|probe)|liveness|readiness|metrics|ping"
    r")_{0,2}(?:\.json)?"
)
"""Lower-case last segments of paths by which orchestrators, load balancers and monitors ask."""
_STATES: Final = frozenset({"live", "ready"})
_STATE: Final = re.compile(r"(?:/*|(?:.*/)?(?:health[^/]*|-)/)(?:live|ready)/*", re.DOTALL)
"""Other lower-case paths of theirs: `live` and `ready` are ordinary words, but at the root and
beneath `/health` and `/-`."""
_NAMES: Final = re.compile(rb"(?:^|[&;[])([^&;=[]*)(?=[=[])")
_RETURN_FROM_LOGIN: Final = frozenset({b"code", b"state"})
"""Both together come from an authorization server (RFC 6749 section 4.1.2)."""


@final
class SecretNames:
    """The names of parameters that carry a secret.

    Each is a whole name, so that `zip_code` is none. Case, hyphens and underscores do not count. Of
    `user[token]` each part is a name.

    Args:
        names: the names; `*` stands for any characters.
    """

    def __init__(self, names: Iterable[str]) -> None:
        plain = {_plain(name.encode()) for name in names}
        self._names: Final = frozenset(name for name in plain if b"*" not in name)
        patterns = [re.escape(name).replace(rb"\*", b".*") for name in plain - self._names]
        self._pattern: Final = re.compile(b"|".join(patterns), re.DOTALL) if patterns else None

    def are_in(self, query: bytes) -> bool:
        """Return whether a query has a parameter of such a name."""
        if b"%" in query:
            query = unquote_to_bytes(query)
        names = set(_NAMES.findall(_plain(query)))
        return names.issuperset(_RETURN_FROM_LOGIN) or self._name_any(names)

    def are_in_template(self, template: str) -> bool:
        """Return whether the template of a route has a parameter of such a name."""
        return self._name_any({_plain(name.encode()) for name in PARAMETER.findall(template)})

    def _name_any(self, names: AbstractSet[bytes]) -> bool:
        return not self._names.isdisjoint(names) or (
            self._pattern is not None and any(map(self._pattern.fullmatch, names))
        )


def takes_default(path: str, query: bytes, secrets: SecretNames) -> bool:
    """Return whether the default lifetime applies to a URL, by its decoded path and its query."""
    # None of these paths ends in a digit, as most do that name one thing.
    if not path[-1:].isdigit():
        # One pattern for whole paths would take ten times as long.
        last = path.rstrip("/").rpartition("/")[2].lower()
        if _PROBE.fullmatch(last) or (last in _STATES and _STATE.fullmatch(path.lower())):
            return False
        if is_operations_word(last):
            return False
    return not (query and secrets.are_in(query))


def _plain(name: bytes) -> bytes:
    return name.lower().translate(None, b"-_]")
