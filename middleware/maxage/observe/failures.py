"""Failures of tools that look at requests: they are logged, and break no answer."""

import logging
from time import monotonic
from typing import Final

logger = logging.getLogger("maxage")

_PAUSE_SECONDS: Final = 60.0
"""Between two lines: a tool that fails may fail at each request."""
_told_at = -_PAUSE_SECONDS


def tell_of_failure(error: Exception) -> None:
    """Log what a tool has raised, at most once a minute."""
    global _told_at  # noqa: PLW0603 - one time for all tools of a process
    now = monotonic()
    if now - _told_at >= _PAUSE_SECONDS:
        _told_at = now
        logger.warning(
            "A tool that looks at requests failed (an audit, a shadow, figures or metrics): "
            "answers are right, and what it tells is incomplete.",
            exc_info=error,
        )
