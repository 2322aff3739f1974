"""Root paths under which this process serves its applications.

Groups are named by paths as the application's router sees them. Callers that purge by hand may know
only the path that clients see, with a root path (`--root-path`, a mount) in front.
"""

from typing import Final, final
from weakref import WeakSet

from maxage.store.fork_safe import fork_safe_lock

_MOST: Final = 16
"""Root paths of one middleware; the ones seen last are kept."""
_DEEPEST_GUESS: Final = 3
"""Segments of a root path where none is known."""


@final
class RootPaths:
    """The root paths that one middleware has seen in scopes."""

    def __init__(self) -> None:
        self.seen: tuple[str, ...] = ()
        self.forgets = False
        """Whether there were more than are kept."""
        with _lock:
            _all.add(self)

    def note(self, root_path: str) -> None:
        """Remember a root path, the empty one too."""
        self.forgets = self.forgets or len(self.seen) >= _MOST
        self.seen = (*self.seen, root_path)[-_MOST:]


_all: Final[WeakSet[RootPaths]] = WeakSet()
_lock: Final = fork_safe_lock()


def beneath(path: str, root_path: str) -> str:
    """Return the path as the router sees it: without the root path, where it begins with it."""
    if not root_path or not path.startswith(root_path):
        return path
    rest = path[len(root_path) :]
    return rest if rest.startswith("/") or not rest else path


def inner_paths(path: str) -> tuple[str, ...]:
    """Return the path without each root path that it may begin with.

    In a process that has seen no request, such as a script, or more root paths than it keeps, any
    few segments may be a root path: more is purged than must be.
    """
    with _lock:
        seen = {root for roots in _all for root in roots.seen}
        knows_all = bool(seen) and not any(roots.forgets for roots in _all)
    # An application that has a mounted one knows only the last part of that one's root path.
    fronts = {front for root in seen for front in _ends(root)}
    known = [beneath(path, front) or "/" for front in fronts if beneath(path, front) != path]
    return tuple(dict.fromkeys(known if knows_all else (*known, *_guessed(path))))


def _guessed(path: str) -> tuple[str, ...]:
    """Return the path without each few segments that may be a root path."""
    segments = path.strip("/").split("/")
    return tuple(
        "/" + "/".join(segments[n:]) for n in range(1, min(len(segments), _DEEPEST_GUESS + 1))
    )


def _ends(root_path: str) -> list[str]:
    """Return the root path, and what is left of it without its first segments."""
    segments = root_path.strip("/").split("/")
    return ["/" + "/".join(segments[n:]) for n in range(len(segments)) if segments[n]]
