"""A renewal that is sent without a task: most purges wait for nothing but their answer.

The groups share one token, so that its commands are made by one join of prepared bytes.
"""

import asyncio
from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final, final

from maxage.redis_store.servers.connections import Connections
from maxage.redis_store.servers.packing import packed_renewals
from maxage.redis_store.shared_state import RedisState
from maxage.redis_store.token_purge import Renewal
from maxage.store.tokens import fresh_token


@final
class SentRenewal(Renewal):
    """Takes the answers of a renewal at the moment they arrive; a failure is owed by then.

    It has at least one group.
    """

    _is_answered = False

    def __init__(self, redis_state: RedisState, groups: Sequence[str]) -> None:
        super().__init__(redis_state, groups)
        self._told: Final[asyncio.Future[Sequence[bytes | None]]] = (
            asyncio.get_running_loop().create_future()
        )

    def send(self, connections: Connections) -> "asyncio.Future[Sequence[bytes | None]] | None":
        """Return the future of the tokens, as `Store.renew` gives them; None: nothing is sent."""
        self.__enter__()
        is_sent = connections.run_at_once(len(self.groups), self._packed, self)
        return self._told if is_sent else None

    def _packed(self, history: bytes) -> bytes:
        """Return the bytes of all commands for a server of this history."""
        token = fresh_token(history)
        self._tokens = [token] * len(self.groups)
        seconds = self.redis_state.lifetimes.beginning(self.token_keys, repeat(token))
        return packed_renewals(self.token_keys, token, seconds)

    # called by the connection

    def done(self) -> bool:
        """Return whether there was an answer or a failure."""
        return self._is_answered

    def set_result(self, result: list[Any], /) -> None:
        """Take the answers."""
        if (node := self.redis_state.node) is not None:
            # Failures before and after it are not in a row.
            node.succeeded()
        self.take(result)
        self._end()

    def set_exception(self, exception: Exception, /) -> None:
        """Take a failure of the server."""
        del exception  # the connection has counted it
        self._end()

    def _end(self) -> None:
        self._is_answered = True
        try:
            # First: a purge that is not confirmed is owed before its caller goes on.
            self.__exit__()
        except Exception as error:  # noqa: BLE001 - raised where the purge is awaited
            # Not to the connection: other commands wait for their answers on it.
            if not self._told.done():
                self._told.set_exception(error)
            return
        if not self._told.done():
            self._told.set_result(self.tokens)
