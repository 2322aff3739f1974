"""A write that may be acknowledged without its purge: a lease is taken while its handler runs."""

from typing import Final, final

from maxage.redis_store.leases.lease_manager import LeaseManager


@final
class LeasedWrite:
    """Encloses a mutating request; `RedisStore._purged` waits for its lease.

    All requests share one: it holds nothing of theirs.
    """

    __slots__ = ("_lease_manager",)

    def __init__(self, lease_manager: LeaseManager) -> None:
        self._lease_manager: Final = lease_manager

    async def __aenter__(self) -> bool:
        lease_manager = self._lease_manager
        lease_manager.pace.asked = True
        lease_manager.lease.begin_mutation()
        if not lease_manager.lease.valid:
            lease_manager.take()
        return True

    async def __aexit__(self, *_: object) -> None:
        self._lease_manager.lease.end_mutation()
