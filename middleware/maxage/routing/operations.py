"""Operations: paths that stand for all that an application knows, such as `/graphql`.

A request names in its query or content what it reads or changes, so that its path tells neither.
"""

from typing import Final

from maxage.routing.template import is_parameter, split

_WORDS: Final = frozenset({
    "graphql", "gql", "rpc", "jsonrpc", "json-rpc", "json_rpc", "xmlrpc", "xml-rpc", "mcp",
})  # fmt: skip


def is_operations_word(segment: str) -> bool:
    """Return whether a lower-case segment is the usual name of such a path."""
    return segment in _WORDS


def takes_operations(template: str) -> bool:
    """Return whether a route takes operations: its last word says so, as in `/rpc/{method}`."""
    words = [segment for segment in split(template) if not is_parameter(segment)]
    return bool(words) and is_operations_word(words[-1].lower())
