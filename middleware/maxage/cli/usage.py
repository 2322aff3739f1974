"""Mistakes in the use of the command line."""

from maxage.errors import MaxageError


class UsageError(MaxageError):
    """Raised when a command cannot be run; the message says why in one sentence."""
