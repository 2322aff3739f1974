"""Where the time comes from; tests pass their own callables instead."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds: POSIX seconds for a wall clock, since an unnamed moment for a monotonic one."""

wall_clock: Clock = time.time
monotonic_clock: Clock = time.monotonic
