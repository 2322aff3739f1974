"""Entry point: run one command, and turn each mistake of its user into one sentence."""

import importlib.util
import sys
from collections.abc import Sequence
from typing import Final

from maxage.errors import MaxageError, StoreUnavailableError

CANNOT_RUN: Final = 2
"""The exit code of a command that cannot be run."""
_NEEDS: Final = ("rich", "typer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code.

    0: it is done. 1: a check failed, or the store refused. 2: the command cannot be run, and one
    sentence on stderr says why.
    """
    if not all(map(importlib.util.find_spec, _NEEDS)):
        return _complain("the command line needs typer and rich: pip install 'maxage[cli]'.")
    from maxage.cli.commands import run  # noqa: PLC0415 - only with the extra

    try:
        return run(sys.argv[1:] if arguments is None else list(arguments))
    except StoreUnavailableError as error:
        return _complain(f"the server does not answer as it should: {error}")
    except MaxageError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe, such as head, has seen enough.
        sys.stderr.close()
        return 0


def _complain(sentence: str) -> int:
    print(f"maxage: {sentence}", file=sys.stderr)  # noqa: T201 - the command's output
    return CANNOT_RUN
