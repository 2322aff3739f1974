"""Keeping popular responses from expiring all at once: early refresh and jitter.

Pure: the caller passes a random number from 0 up to but not including 1.
"""

import math

from maxage.rfc9111.age import current_age
from maxage.rfc9111.message import StoredResponse


def is_due_early(stored: StoredResponse, *, now: float, factor: float, draw: float) -> bool:
    """Return whether a fresh response is to be refreshed early.

    This is XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede
    Prevention, 2015): `now - delta * beta * log(rand()) >= expiry`. Delta is what the response took
    to be made, in seconds, so that expensive ones begin earlier; `factor` is beta. The nearer the
    end, and the more requests there are, the likelier it is that one of them begins.
    """
    delta = max(0.0, stored.response_time - stored.request_time)
    left = stored.freshness_lifetime - current_age(stored, now=now)
    return left <= -delta * factor * math.log(1.0 - draw)


def shortened(lifetime: float, *, share: float, draw: float) -> float:
    """Return a lifetime (seconds) shortened by a random part of `share` of it; never longer."""
    return lifetime * (1.0 - share * draw)
