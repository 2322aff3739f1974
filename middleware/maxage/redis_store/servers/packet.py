"""Packets: the commands for one server in one round trip, and its answers.

A question to the store takes one round trip or several, to one server or to many. The functions
that know these rounds are generators: each yields the packets of a round, and finds their answers
in them afterwards. They send nothing, so that awaiting and blocking connections share them.
"""

from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar, final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers.commands import Command, is_replicated
from maxage.redis_store.servers.node import Node

T = TypeVar("T")
Rounds = Generator[list["Packet"], None, T]
"""Yields the packets of each round, which are sent side by side. An answer may be lost."""
Check = Callable[[list[Any]], list[Any]]
"""Returns the checked answers; raises `ResponseError` or `InvalidResponse` for a broken server."""

UNANSWERED: Final = StoreUnavailableError("a Redis server did not answer")


@final
class Packet:
    """The commands for one server in one round, and its answers.

    Args:
        node: the server.
        plan: returns the commands, given the server's history; it is called for each attempt.
        check: checks the answers to a read; see `take`.
    """

    __slots__ = ("_check", "_count", "_plan", "answers", "history", "node")

    def __init__(
        self, node: Node, plan: Callable[[bytes], list[Command]], check: Check | None = None
    ) -> None:
        self.node: Final = node
        self.history = b""
        """The history of the server that the commands were made for."""
        self.answers: list[Any] | None = None
        """The answers, errors included; None: there are none, or no replica confirmed them."""
        self._plan: Final = plan
        self._check: Final = check
        self._count = 0

    @property
    def is_read(self) -> bool:
        """Whether the packet reads values or tokens."""
        return self._check is not None

    def commands(self, history: bytes) -> list[Command]:
        """Return the commands for a server of this history."""
        self.history = history
        commands = self._plan(history)
        self._count = len(commands)
        return commands

    def take(self, answers: list[Any]) -> None:
        """Keep the answers, unless they end with a WAIT that no replica confirmed.

        Raises:
            ResponseError, InvalidResponse: the server cannot be used for reads.
        """
        if len(answers) > self._count:
            if not is_replicated(answers[-1]) and not self.node.refuses_wait(answers[-1]):
                return
            answers = answers[: self._count]
        if self._check is None:
            self.node.written(answers)
            self.answers = answers
        else:
            self.answers = self._check(answers)
