"""What the library sees of a Redis server, in memory: for a model that must be quick and exact.

It stands in for redis-py's synchronous connections and nothing above them, so that what is driven
is the shipped code. What a real server does with these commands is tested elsewhere.
"""

from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

Words = tuple[Any, ...]


class FakeServer:
    """Values, hashes, a clock and a history; and a replica that lags behind."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.offset = 0.0
        """Seconds by which its clock is set wrong."""
        self.values: dict[bytes, Any] = {}
        self.history = 0
        self.generation = 0
        """Connections of an earlier one are broken."""
        self._replica: dict[bytes, Any] = {}
        self.delayed: list[list[Words]] = []
        """Commands whose clients have given up, still under way."""

    def replicate(self) -> None:
        """Let the replica have all that is here."""
        self._replica = _copy(self.values)

    def fail_over(self, *, keep_connections: bool) -> None:
        """Let the replica take over: what it had not got is lost, and the history is another."""
        self.values = _copy(self._replica)
        self.history += 1
        self.generation += not keep_connections

    def run(self, words: Words) -> Any:
        """Execute one command."""
        name, *rest = words
        return getattr(self, f"_{name.lower()}")(*rest)

    def _info(self, section: str) -> bytes:
        return b"role:master\r\nconnected_slaves:0\r\nmaster_replid:%040d\r\n" % (
            self.history * 10**30
        )

    def _ping(self) -> bytes:
        return b"PONG"

    def _time(self) -> list[bytes]:
        now = self._clock() + self.offset
        return [b"%d" % int(now), b"%d" % int(now % 1 * 1_000_000)]

    def _get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def _mget(self, *keys: bytes) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]

    def _set(self, key: bytes, value: bytes, *options: Any) -> bytes | None:
        if "NX" in options and key in self.values:
            return None
        self.values[key] = value
        return b"OK"

    def _pttl(self, key: bytes) -> int:
        return 3_600_000 if key in self.values else -2

    def _expire(self, key: bytes, seconds: int) -> int:
        return int(key in self.values)

    def _unlink(self, *keys: bytes) -> int:
        return sum(self.values.pop(key, None) is not None for key in keys)

    def _hgetall(self, key: bytes) -> list[bytes]:
        return [part for pair in self.values.get(key, {}).items() for part in pair]

    def _hget(self, key: bytes, name: str | bytes) -> bytes | None:
        found: bytes | None = self.values.get(key, {}).get(_bytes(name))
        return found

    def _hset(self, key: bytes, *fields: str | bytes) -> int:
        pairs = zip(fields[::2], fields[1::2], strict=True)
        self.values.setdefault(key, {}).update((_bytes(n), v) for n, v in pairs)
        return len(fields) // 2

    def _hdel(self, key: bytes, name: str) -> int:
        return int(self.values.get(key, {}).pop(name.encode(), None) is not None)


class FakeLink:
    """One process's way to the server, and what is wrong with it."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.fault = "none"

    def pool(
        self, timeout: float, on_connect: Any = None, *, connect_timeout: float | None = None
    ) -> "FakePool":
        """Stand in for `Node.pool`."""
        return FakePool(self, on_connect)

    def exchange(self, commands: Sequence[Words]) -> list[Any]:
        """Send commands in one round trip."""
        if self.fault == "cut":
            raise RedisConnectionError("cut off")
        if self.fault == "delayed" and any(words[0] == "SET" for words in commands):
            self.server.delayed.append(list(commands))
            raise RedisConnectionError("no answer in time")
        if self.fault == "records delayed" and any(words[0] == "HSET" for words in commands):
            self.server.delayed.append(list(commands))
            raise RedisConnectionError("no answer in time")
        full = self.fault == "full"
        answers = [
            OutOfMemoryError("OOM") if full and words[0] == "SET" else self.server.run(words)
            for words in commands
        ]
        if self.fault == "mute" and any(words[0] == "SET" for words in commands):
            raise RedisConnectionError("the answer is lost")
        return answers


class FakeConnection:
    """A connection of redis-py, as far as it is used."""

    def __init__(self, link: FakeLink, on_connect: Any) -> None:
        self._link = link
        self._on_connect = on_connect
        self._generation: int | None = None
        self._answers: list[Any] = []

    def connect(self) -> None:
        """Connect, and let the handshake be made."""
        if self._generation is None:
            self._generation = self._link.server.generation
            if self._on_connect is not None:
                try:
                    self._on_connect(self)
                except BaseException:
                    self.disconnect()
                    raise

    def on_connect(self) -> None:
        """Do redis-py's own part of the handshake."""

    def disconnect(self) -> None:
        """Forget the connection."""
        self._generation = None
        self._answers = []

    def pack_commands(self, commands: Sequence[Words]) -> Sequence[Words]:
        """Pack nothing."""
        return commands

    def send_command(self, *words: Any) -> None:
        """Send one command."""
        self.send_packed_command([words])

    def send_packed_command(self, commands: Sequence[Words]) -> None:
        """Send commands and have their answers."""
        if self._generation != self._link.server.generation:
            self.disconnect()
            raise RedisConnectionError("the server has gone")
        self._answers += self._link.exchange(commands)

    def read_response(self, **_: Any) -> Any:
        """Return the next answer."""
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakePool:
    """A pool of redis-py with one connection."""

    def __init__(self, link: FakeLink, on_connect: Any) -> None:
        self._connection = FakeConnection(link, on_connect)

    def get_connection(self) -> FakeConnection:
        """Return the connection, connected."""
        self._connection.connect()
        return self._connection

    def release(self, connection: FakeConnection) -> None:
        """Take it back."""

    def disconnect(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


def _bytes(name: str | bytes) -> bytes:
    return name.encode() if isinstance(name, str) else name


def _copy(values: dict[bytes, Any]) -> dict[bytes, Any]:
    return {key: dict(v) if isinstance(v, dict) else v for key, v in values.items()}
