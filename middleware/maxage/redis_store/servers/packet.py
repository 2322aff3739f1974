"""Packets: the commands for one server in one round trip, and its answers.

A question to the store takes one round trip or several, to one server or to many. The functions
that know these rounds are generators: each yields the packets of a round, and finds their answers
in them afterwards. They send nothing, so that awaiting and blocking connections share them.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, TypeVar, final

from maxage.errors import StoreUnavailableError
from maxage.redis_store.servers.commands import Command, Plan, is_replicated
from maxage.redis_store.servers.node import Node

T = TypeVar("T")
Rounds = Generator[list["Packet"], None, T]
"""Yields the packets of each round. They are sent side by side; a lost answer is left out."""
Check = Callable[[Sequence[Any]], object]
"""Raises the error among the answers, or `InvalidResponse`, where a server answers nonsense."""

ASKING: Final[Command] = ("ASKING",)
UNANSWERED: Final = StoreUnavailableError("a Redis server did not answer")


@final
class Packet:
    """The commands for one server in one round, and its answers.

    Args:
        node: the server.
        positions: the positions of the plan that this server gets.
        plan: gives the command for each position.
        asking: whether the server only takes the keys over: each command follows an ASKING.
        check: checks the answers to a read; see `take`.
    """

    __slots__ = ("_check", "_plan", "answers", "asking", "history", "node", "positions")

    def __init__(
        self,
        node: Node,
        positions: Sequence[int],
        plan: Plan,
        *,
        asking: bool = False,
        check: Check | None = None,
    ) -> None:
        self.node: Final = node
        self.positions: Final = positions
        self.asking: Final = asking
        self.history = b""
        """The history of the server that the commands were made for."""
        self.answers: Sequence[Any] = [UNANSWERED] * len(positions)
        """One for each position, errors included."""
        self._plan: Final = plan
        self._check: Final = check

    @property
    def is_read(self) -> bool:
        """Whether the packet reads values or tokens."""
        return self._check is not None

    def commands(self, history: bytes) -> list[Command]:
        """Return the commands for a server of this history."""
        self.history = history
        commands = [self._plan(position, history) for position in self.positions]
        if not self.asking:
            return commands
        # An ASKING counts for the one command after it.
        return [each for command in commands for each in (ASKING, command)]

    def take(self, answers: Sequence[Any]) -> None:
        """Keep the answers, unless they end with a WAIT that no replica confirmed.

        Raises:
            ResponseError, InvalidResponse: the server cannot be used for reads.
        """
        count = len(self.positions) * (2 if self.asking else 1)
        if len(answers) > count:
            if not is_replicated(answers[-1]):
                return
            answers = answers[:count]
        if self.asking:
            answers = answers[1::2]
        if self._check is not None:
            self._check(answers)
        self.answers = answers
