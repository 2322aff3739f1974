"""The command line `maxage` (extra `cli`)."""

from maxage.cli.start import main

__all__ = ["main"]
