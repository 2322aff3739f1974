"""A renewal that is sent without a task: most purges wait for nothing but their answer.

The groups share one token, so that its commands are made by one join of prepared bytes.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, final

from maxage.redis_store.servers.connections import Connections
from maxage.redis_store.shared_state import RedisState
from maxage.redis_store.token_purge import Renewal


@final
class SentRenewal:
    """Takes the answers of a renewal at the moment they arrive; a failure is owed by then.

    Args:
        redis_state: the store.
        groups: the groups, at least one.
    """

    __slots__ = ("_is_answered", "_renewal", "_tokens")

    def __init__(self, redis_state: RedisState, groups: Sequence[str]) -> None:
        self._renewal: Final = Renewal(redis_state, groups)
        self._tokens: Final[asyncio.Future[Sequence[bytes | None]]] = (
            asyncio.get_running_loop().create_future()
        )
        self._is_answered = False

    def send(self, connections: Connections) -> "asyncio.Future[Sequence[bytes | None]] | None":
        """Return the future of the tokens, as `Store.renew` gives them; None: nothing is sent."""
        renewal = self._renewal
        renewal.__enter__()
        if connections.run_at_once(len(renewal.groups), renewal.packed, self):
            return self._tokens
        return None

    # called by the connection

    def done(self) -> bool:
        """Return whether there was an answer or a failure."""
        return self._is_answered

    def set_result(self, result: list[Any], /) -> None:
        """Take the answers."""
        if (node := self._renewal.redis_state.node) is not None:
            # Failures before and after it are not in a row.
            node.succeeded()
        self._renewal.take(result)
        self._end()

    def set_exception(self, exception: Exception, /) -> None:
        """Take a failure of the server."""
        del exception  # the connection has counted it
        self._end()

    def _end(self) -> None:
        self._is_answered = True
        try:
            # First: a purge that is not confirmed is owed before its caller goes on.
            self._renewal.__exit__()
        except Exception as error:  # noqa: BLE001 - raised where the purge is awaited
            # Not to the connection: other commands wait for their answers on it.
            if not self._tokens.done():
                self._tokens.set_exception(error)
            return
        if not self._tokens.done():
            self._tokens.set_result(self._renewal.tokens)
