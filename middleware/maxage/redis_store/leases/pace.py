"""The pace of a process: how often it looks at the leases, by when it was last asked for something.

Some servers bill by the command, so that a process which is asked for nothing sends few, and after
a while none. It trusts nothing then; the next request wakes it, and waits for a look.
"""

from typing import Final, final

from maxage.redis_store.leases.lease import LOOK_INTERVAL

BUSY_SECONDS: Final = 2 * LOOK_INTERVAL
"""Seconds after the last question for which a process looks once per `LOOK_INTERVAL`."""
IDLE_LOOK_INTERVAL: Final = 5.0
"""Seconds between two looks of an idle process, each of which is four commands at most."""
REST_SECONDS: Final = 50.0
"""Seconds after the last question from which on a process does not look at all."""


@final
class Pace:
    """Says at each heartbeat whether to look. Any thread may set `asked`."""

    def __init__(self) -> None:
        self.asked = False
        """Whether answers of the servers were wanted since the last heartbeat."""
        self.rests = False
        """Whether the last heartbeat made no look, since nothing was asked for."""
        self._asked_at = float("-inf")

    def beat(self, now: float, *, looked_at: float | None, must_look: bool) -> bool:
        """Note a heartbeat; return whether to look.

        Args:
            now: the clock of this process.
            looked_at: the clock at the last look; None: there was none.
            must_look: whether a request waits for a look, a lease is held, or a purge is owed.
        """
        asked, self.asked = self.asked, False
        if asked:
            self._asked_at = now
        idle = now - self._asked_at
        is_due = looked_at is None or now - looked_at >= IDLE_LOOK_INTERVAL
        looks = must_look or idle <= BUSY_SECONDS or (idle <= REST_SECONDS and is_due)
        self.rests = not looks
        return looks

    def is_asleep(self, now: float) -> bool:
        """Return whether nothing has been asked for so long that no look is made."""
        return now - self._asked_at > REST_SECONDS
