"""A model of a store of one size, for several lifetimes: the responses in it at each request.

The least recently used response makes room, as in the embedded store and in a Redis with
`allkeys-lru`. Each lifetime has its own answers, but all share one order of use: under each of them
a request moves its response to the newest ones, whether it was a hit or is stored anew.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple, final

IN_REDIS: Final = 860
"""Bytes of a response in Redis besides its body, with key and token; see `poe sizing`."""
IN_PROCESS: Final = 4000
"""The same in a process, with key and token, as `CACHE_MEMORY_BYTES` counts them."""
_MOST_KEYS: Final = 200_000
"""Responses that a model keeps at most, whatever its size; about 200 MB."""


class Stay(NamedTuple):
    """For how long a response would be used, if it were stored now; seconds."""

    fresh: float
    """0: it is not stored."""
    stale: float = 0.0
    """Served once more after that, while it is refreshed (`stale-while-revalidate`)."""


@final
class _Kept:
    """A response that is kept, for each lifetime: when it was stored, and until when it answers."""

    __slots__ = ("ends", "refreshes", "serials", "size")

    def __init__(self, size: int, count: int) -> None:
        self.size = size
        self.serials = [-1] * count
        """The number of the request that it answered first; -1: it is not stored."""
        self.refreshes = [0.0] * count
        self.ends = [0.0] * count


@final
class StoreModel:
    """The responses in a store of this size.

    Args:
        max_bytes: the size; None: no limit.
        lifetimes: their number.
        overhead: bytes of a response besides its body.
    """

    def __init__(self, max_bytes: int | None, lifetimes: int, overhead: int = IN_REDIS) -> None:
        self.max_bytes: Final = max_bytes
        self._overhead: Final = overhead
        self._lifetimes: Final = lifetimes
        self._kept: Final[OrderedDict[bytes, _Kept]] = OrderedDict()
        self.used = 0
        self.most_used = 0
        """The most bytes that were used at a time."""
        self.most_kept = 0
        """The most responses that were kept at a time."""
        self.forgotten = 0
        """Responses that this model had no room for, though the store would have."""

    def ask(
        self, key: bytes, *, now: float, serial: int, purged: int, stays: Sequence[Stay] | None,
        size: int,
    ) -> list[bool]:  # fmt: skip
        """Return for each lifetime whether the store answers; store the answer where it does not.

        Args:
            key: of the response.
            now: seconds.
            serial: the number of the request.
            purged: the number of the last write that purged the response.
            stays: for each lifetime; None: the application's answer is not stored.
            size: bytes of its body.
        """
        kept = self._kept.get(key)
        if kept is None:
            if stays is None:
                return [False] * self._lifetimes
            kept = self._add(key, size)
        else:
            self._kept.move_to_end(key)
        hits: list[bool] = []
        for number in range(self._lifetimes):
            hit = kept.serials[number] > purged and now < kept.ends[number]
            hits.append(hit)
            if stays is not None and not (hit and now < kept.refreshes[number]):
                stay = stays[number]
                kept.serials[number] = serial if stay.fresh > 0 else -1
                kept.refreshes[number] = now + stay.fresh
                kept.ends[number] = now + stay.fresh + stay.stale
        return hits

    def _add(self, key: bytes, size: int) -> _Kept:
        kept = self._kept[key] = _Kept(size + self._overhead, self._lifetimes)
        self.used += kept.size
        self.most_used = max(self.most_used, self.used)
        self.most_kept = max(self.most_kept, len(self._kept))
        limit = self.max_bytes
        while (limit is not None and self.used > limit) or len(self._kept) > _MOST_KEYS:
            if limit is None or self.used <= limit:
                self.forgotten += 1
            self.used -= self._kept.popitem(last=False)[1].size
        return kept
