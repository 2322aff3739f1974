"""The errors that maxage raises; it handles all others itself."""


class MaxageError(Exception):
    """Base class of the errors of maxage."""


class SettingsError(MaxageError, ValueError):
    """A setting is invalid; the message names the setting, its value and the valid values."""


class StoreUnavailableError(MaxageError):
    """The store did not answer within its time budget, or answered with an error."""


class UnsupportedWhileAwayError(MaxageError):
    """A lock, a script, WATCH or a subscription was requested while Redis is unavailable."""
