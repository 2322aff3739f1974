"""A token lives at least as long as what carries it, and near caches hear of it seldom."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from redis.exceptions import ResponseError

from maxage.redis_store.redis_store import RedisStore
from maxage.redis_store.sync_redis_store import SyncRedisStore
from maxage.redis_store.token_lifetimes import TokenLifetimes
from maxage.settings import CacheSettings
from maxage.store.base import StoreWrite
from maxage.store.tokens import TOKEN_SECONDS, token_key
from tests.support.clock import ManualClock
from tests.support.redis_server import RedisServer
from tests.support.resp import ReplyError, RespClient

HOUR = 3600.0
GROUP = "g:a"
Ask = Callable[[Sequence[Any]], Any]


class Process:
    """What one process knows of the tokens; each round of its writes is sent when told."""

    def __init__(self, namespace: str, ask: Ask, clock: ManualClock | None = None) -> None:
        self.known = TokenLifetimes(namespace, clock=(clock or ManualClock()).monotonic)
        self.ask = ask
        self.sent: list[str] = []
        self.extensions = 0
        self.kept: bool | None = None

    def rounds(self, *, keep_for: float, token: bytes = b"token") -> Iterator[None]:
        """Write a value that carries the token; yield before each round but the first."""
        writing = self.known.writing([StoreWrite([(b"k", b"v")], keep_for, {GROUP: token})])
        commands = next(writing)
        while True:
            names = [command[0] for command in commands]
            answers = [self.ask(command) for command in commands]
            self.sent += names
            self.extensions += list(zip(names, answers, strict=True)).count(("EXPIRE", 1))
            try:
                commands = writing.send(answers)
            except StopIteration as end:
                self.kept = end.value
                return
            yield

    def write(self, *, keep_for: float, token: bytes = b"token") -> None:
        for _ in self.rounds(keep_for=keep_for, token=token):
            pass
        assert self.kept is True


@pytest.fixture
def namespace(redis_url: str) -> str:
    """A namespace of the test's own, on a server that is there."""
    assert redis_url
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def ask(redis_server: RedisServer) -> Ask:
    """Sends a command to the server; an error stands in the place of its answer."""

    def asked(command: Sequence[Any]) -> Any:
        try:
            answer = redis_server.call(*command)
        except ReplyError as error:
            return ResponseError(str(error))
        return answer

    return asked


def create(ask: Ask, namespace: str) -> Callable[[], float]:
    """Create the token as a lookup does; return what tells for how many seconds it lives yet."""
    key = token_key(namespace, GROUP)
    ask(("SET", key, b"token", "EX", TOKEN_SECONDS))
    return lambda: ask(("PTTL", key)) / 1000


@pytest.mark.parametrize("keep_for", [10.0, HOUR - 10, HOUR, HOUR + 61, 31_536_000.0])
def test_a_token_outlives_what_carries_it(ask: Ask, namespace: str, keep_for: float) -> None:
    """Whether it has to be extended for that or not."""
    left = create(ask, namespace)
    Process(namespace, ask).write(keep_for=keep_for)
    assert left() >= keep_for


async def test_a_token_outlives_the_longest_of_what_is_written_together(
    ask: Ask, redis_url: str, namespace: str
) -> None:
    """Whichever comes first; no other token is extended for it."""
    store = RedisStore(redis_url, CacheSettings(cache_namespace=namespace, cache_write_budget=5))
    groups = (GROUP, "g:b", "g:c")
    for group in groups:
        ask(("SET", token_key(namespace, group), b"token", "EX", TOKEN_SECONDS))
    lasting = ((30 * HOUR, GROUP), (60.0, GROUP), (60.0, "g:b"), (2 * HOUR, "g:c"))
    writings = [StoreWrite([(b"k", b"v")], keep_for, {g: b"token"}) for keep_for, g in lasting]
    assert await store.write_all(writings)
    left = [ask(("PTTL", token_key(namespace, group))) / 1000 for group in groups]
    assert left[0] >= 30 * HOUR
    assert left[1] <= HOUR
    assert 2 * HOUR <= left[2] <= 4 * HOUR
    await store.close()


def test_a_process_that_knows_nothing_shortens_no_token(ask: Ask, namespace: str) -> None:
    """Another one has extended it for an entry that lives longer."""
    left = create(ask, namespace)
    Process(namespace, ask).write(keep_for=30 * HOUR)
    Process(namespace, ask).write(keep_for=2 * HOUR)
    assert left() >= 30 * HOUR


def test_two_that_extend_a_token_at_once_leave_it_for_the_longer_one(
    ask: Ask, namespace: str, redis_server: RedisServer
) -> None:
    """The one which needs it for less asked before, and comes last."""
    if redis_server.binary.version < (7,):
        pytest.skip("Redis 6.2 knows no GT; docs/limits.md says what follows")
    left = create(ask, namespace)
    hasty, slow = Process(namespace, ask), Process(namespace, ask)
    rounds = slow.rounds(keep_for=2 * HOUR)
    next(rounds)
    hasty.write(keep_for=30 * HOUR)
    assert list(rounds) == []
    assert left() >= 30 * HOUR


def test_a_token_that_lives_long_enough_is_left_alone(ask: Ask, namespace: str) -> None:
    """Each extension would be a message to every near cache, which takes it for a purge."""
    create(ask, namespace)
    process = Process(namespace, ask)
    process.write(keep_for=60)
    process.write(keep_for=60)
    assert process.sent == ["SET", "PTTL", "SET"]


@pytest.mark.parametrize(
    ("keep_for", "seconds"), [(HOUR - 5, HOUR), (HOUR - 4.9, 4 * HOUR), (30 * HOUR, 4 * HOUR)]
)
def test_tokens_are_written_for_longer_once_something_is_kept_for_an_hour(
    ask: Ask, namespace: str, keep_for: float, seconds: int
) -> None:
    """Else the token of each new URL would have to be extended when its response is stored."""
    create(ask, namespace)
    process = Process(namespace, ask)
    assert process.known.token_seconds == HOUR
    for each in (keep_for, 60):
        process.write(keep_for=each)
        assert process.known.token_seconds == seconds


def test_a_token_is_extended_for_twice_as_long_as_it_has_to_be(ask: Ask, namespace: str) -> None:
    """Entries that are kept for two hours, one a minute, extend it every two hours."""
    clock, key = ManualClock(), token_key(namespace, GROUP)
    create(ask, namespace)
    process = Process(namespace, ask, clock)
    for _ in range(6 * 60):
        process.write(keep_for=2 * HOUR)
        clock.advance(60)
        ask(("PEXPIRE", key, ask(("PTTL", key)) - 60_000))
    assert process.extensions == 3


def test_what_was_known_of_a_token_says_nothing_about_the_next_one(
    ask: Ask, namespace: str
) -> None:
    """Another process has purged the group since."""
    create(ask, namespace)
    process = Process(namespace, ask)
    process.write(keep_for=2 * HOUR)
    left = create(ask, namespace)
    process.write(keep_for=2 * HOUR, token=b"another")
    assert left() >= 2 * HOUR


def test_a_token_that_never_expires_is_left_alone(ask: Ask, namespace: str) -> None:
    """An operator has persisted it."""
    left = create(ask, namespace)
    ask(("PERSIST", token_key(namespace, GROUP)))
    process = Process(namespace, ask)
    process.write(keep_for=2 * HOUR)
    assert left() < 0
    assert process.sent == ["SET", "PTTL"]


def test_redis_6_2_which_knows_no_gt_extends_too(ask: Ask, namespace: str) -> None:
    """It refuses the condition; the token is extended without it."""
    left = create(ask, namespace)

    def older(command: Sequence[Any]) -> Any:
        if command[0] == "EXPIRE" and len(command) > 3:
            return ResponseError("wrong number of arguments for 'expire' command")
        return ask(command)

    Process(namespace, older).write(keep_for=30 * HOUR)
    assert left() >= 30 * HOUR


def test_a_user_who_may_not_ask_for_it_extends_each_time(ask: Ask, namespace: str) -> None:
    """PTTL is refused: the token's lifetime is unknown."""
    left = create(ask, namespace)

    def guarded(command: Sequence[Any]) -> Any:
        return ResponseError("NOPERM") if command[0] == "PTTL" else ask(command)

    Process(namespace, guarded).write(keep_for=60)
    assert left() > HOUR


def test_a_server_that_refuses_both_is_not_asked_for_ever(ask: Ask, namespace: str) -> None:
    """The value is kept, and the token ends when it ends."""
    left = create(ask, namespace)

    def closed(command: Sequence[Any]) -> Any:
        return ask(command) if command[0] == "SET" else ResponseError("NOPERM")

    process = Process(namespace, closed)
    process.write(keep_for=30 * HOUR)
    assert process.sent == ["SET", "PTTL", "EXPIRE"]
    assert left() <= HOUR


async def test_both_halves_tell_no_near_cache_of_a_write(
    redis_server: RedisServer, redis_url: str, namespace: str
) -> None:
    """A connection that tracks the tokens hears of the purge that follows, and of nothing else."""
    settings = CacheSettings(cache_namespace=namespace, cache_write_budget=5, cache_read_budget=5)
    store, plain = RedisStore(redis_url, settings), SyncRedisStore(redis_url, settings)
    (token,) = (await store.read((), (GROUP,))).tokens
    assert token is not None
    with redis_server.client() as listening:
        listen(listening, namespace)
        assert await store.write([(b"k", b"v")], keep_for=60, tokens={GROUP: token})
        assert plain.write_now([(b"k", b"v")], keep_for=60, tokens={GROUP: token})
        await store.renew(["g:last"])
        assert listening.read()[-1] == [token_key(namespace, "g:last")]
    await store.close()
    plain.close()


def listen(connection: RespClient, namespace: str) -> None:
    """Hear of every token that changes."""
    number = connection.call("CLIENT", "ID")
    tracking = ("ON", "REDIRECT", number, "BCAST", "PREFIX", f"{namespace}:t:")
    connection.call("CLIENT", "TRACKING", *tracking)
    connection.call("SUBSCRIBE", "__redis__:invalidate")
