"""Passwords that change: a function is asked for them, for each new connection."""

from typing import Any, Final, final

from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError

from maxage.redis_options import RedisCredentials
from maxage.redis_store.servers.blocking_calls import run_blocking, start_blocking

_LONGEST_CALL: Final = 1.0
"""Seconds that a blocking connection waits for the function."""


@final
class FunctionCredentials(CredentialProvider):
    """Asks a function, in a thread of its own: a function that hangs blocks no event loop.

    Args:
        function: returns a password, or user name and password.
        username: the user name where the function returns a password only; None: Redis' default.
    """

    def __init__(self, function: RedisCredentials, username: str | None) -> None:
        self._function: Final = function
        self._username: Final = username

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return the arguments of AUTH.

        Raises:
            AuthenticationError: the function failed, hung, or returned something else.
        """
        try:
            return self._checked(start_blocking(self._function).result(_LONGEST_CALL))
        except Exception as error:  # noqa: BLE001 - the function is the user's
            raise _failed(error) from None

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Await the arguments of AUTH; see `get_credentials`."""
        try:
            return self._checked(await run_blocking(self._function))
        except Exception as error:  # noqa: BLE001 - the function is the user's
            raise _failed(error) from None

    def _checked(self, answer: str | tuple[str, str]) -> tuple[str] | tuple[str, str]:
        match answer:
            case str():
                return (self._username, answer) if self._username else (answer,)
            case (str(), str()):
                return answer
        raise TypeError(type(answer).__name__)


def _failed(error: Exception) -> AuthenticationError:
    # Its text may contain the password.
    return AuthenticationError(
        f"redis_credentials gave no password ({type(error).__name__}); it has to return a text, or "
        "user name and password"
    )


def with_credentials(options: dict[str, Any], function: RedisCredentials | None) -> dict[str, Any]:
    """Return redis-py's connection options with a function in place of the password, if any."""
    if function is None:
        return options
    others = {n: value for n, value in options.items() if n not in {"username", "password"}}
    return others | {"credential_provider": FunctionCredentials(function, options.get("username"))}
