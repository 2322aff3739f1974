"""`# maxage: ignore[MX101]`: the comments that silence findings of one endpoint."""

import re
from typing import Any, Final

from maxage.lint.code.function import Function, head_of

_COMMENT: Final = re.compile(r"#\s*maxage:\s*ignore\[([^\]]*)\]")


def ignored_codes(*functions: Function | type[Any]) -> frozenset[str]:
    """Return the codes that comments at these functions or classes silence.

    A comment counts from the lines above the decorators to the beginning of the body.
    """
    return frozenset(
        code.strip().upper()
        for function in functions
        for line in head_of(function)
        for found in _COMMENT.finditer(line)
        for code in found[1].split(",")
    )
