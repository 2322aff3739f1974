"""The assertion that lint finds nothing."""

from collections.abc import Iterable
from typing import Any

from maxage.lint import lint


def assert_lint_clean(app: Any, *, ignore: Iterable[str] = ()) -> None:
    """Fail if lint finds anything but notes; see `lint`.

    Raises:
        AssertionError: it tells each finding in a line.
    """
    found = [one for one in lint(app, ignore=ignore) if not one.is_note]
    if found:
        raise AssertionError("\n".join([f"{len(found)} findings:", *map(str, found)]))
