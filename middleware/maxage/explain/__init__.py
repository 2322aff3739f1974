"""Explain: why a request is a hit, a miss or a bypass, and how to change that."""

from maxage.explain.explain import aexplain, explain
from maxage.explain.explanation import (
    Explanation,
    GroupState,
    Part,
    Prospect,
    RouteShown,
    StoredShown,
)

__all__ = [
    "Explanation",
    "GroupState",
    "Part",
    "Prospect",
    "RouteShown",
    "StoredShown",
    "aexplain",
    "explain",
]
