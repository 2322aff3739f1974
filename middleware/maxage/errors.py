"""What maxage raises; everything else is handled where it happens."""


class MaxageError(Exception):
    """Base of every error of this package."""


class SettingsError(MaxageError, ValueError):
    """A setting that cannot be right; the message names it, what it got and what it takes."""


class StoreUnavailableError(MaxageError):
    """The store did not answer within its time budget, or answered that it cannot."""


class UnsupportedWhileAwayError(MaxageError):
    """A Redis operation that must not be pretended (lock, script, WATCH, subscription)."""
