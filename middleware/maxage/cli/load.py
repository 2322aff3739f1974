"""Applications by their name on the command line."""

import importlib
import sys
from typing import Any

from maxage.cli.usage import UsageError
from maxage.redis_store.servers.node import describe


def load(name: str) -> Any:
    """Import the application `MODULE:APP`, looking in the current directory first.

    Raises:
        UsageError: there is no such application.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{name!r} names no application; it takes MODULE:APP, such as main:app.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(f"{name!r} cannot be loaded: no module {error.name!r}.") from None
    except Exception as error:
        raise UsageError(
            f"{name!r} cannot be loaded: its import raised {describe(error)}"
        ) from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise UsageError(f"{module_name!r} has no application {attribute!r}.")
    return found
