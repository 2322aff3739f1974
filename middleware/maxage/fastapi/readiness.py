"""Readiness: the application's own conditions for taking requests."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal

from pydantic import BaseModel

from maxage.redis_store.servers.node import describe

CHECK_TIMEOUT: Final = 1.0
"""Seconds that each check may take; all of them run at once."""

logger = logging.getLogger("maxage")


class Readiness(BaseModel):
    """Whether this process may be sent requests."""

    status: Literal["ready", "not ready"]
    failed: list[str]
    """The names of the checks that failed."""


async def failed_checks(checks: Mapping[str, Callable[[], Awaitable[bool]]]) -> list[str]:
    """Run all checks at once; return the names of those that failed, in their order."""
    passed = await asyncio.gather(*(_passes(name, check) for name, check in checks.items()))
    return [name for name, good in zip(checks, passed, strict=True) if not good]


async def _passes(name: str, check: Callable[[], Awaitable[bool]]) -> bool:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            return bool(await check())
    except Exception as error:  # noqa: BLE001 - it is the application's code
        logger.warning(
            "The readiness check %r failed (%s): /health/ready answers 503 until it passes.",
            name,
            describe(error),
        )
        return False
