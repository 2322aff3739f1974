"""The clocks; tests pass callables of their own."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds: since 1970 for a wall clock, since an unspecified moment for a monotonic one."""

wall_clock: Clock = time.time
monotonic_clock: Clock = time.monotonic
