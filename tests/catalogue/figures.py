"""The figures of an outage, and how generous the suite is with them on a busy machine."""

import os

GENEROUS = float(os.environ.get("FAULTS_GENEROUS", "6"))
"""By how much durations may exceed their figure; 1 in `poe faults`."""
ADDED_BY_GET = 0.060
"""Seconds that a hung Redis adds to a GET before the breaker opens."""
SLOW_GETS = 3
"""GETs of one outage and node that are slow, one after the other."""
MEDIAN, NINETY_NINTH = 0.001, 0.003
"""Seconds that the cache adds afterwards."""
BURST = 0.100
"""Seconds that a hung Redis adds to 100 clients at once."""
ADDED_BY_PUT = 0.110
"""Seconds in which a PUT is answered while Redis hangs."""
BACK_WITHIN = 1.0
"""Seconds to the first hit after Redis is back, and to an answer after a leader was killed."""
GROWTH = 20 * 1024 * 1024
"""Bytes by which a process grows at most."""


def allowed(figure: float, usual: float) -> float:
    """Return the seconds that may be added, where `usual` is what the same takes without a cache.

    Exactly the figure in `poe faults`; in the suite more, by the more the slower the machine is.
    """
    return figure if GENEROUS == 1 else figure * GENEROUS + 5 * usual
