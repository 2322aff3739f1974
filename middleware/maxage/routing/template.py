"""Templates of routes, and paths, by their segments."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

PARAMETER: Final = re.compile(r"\{([^{}:]+)(?::[^{}]*)?\}")


def split(template: str) -> list[str]:
    """Return the segments of a template or path."""
    return [segment for segment in template.split("/") if segment]


def shape(template: str) -> tuple[str, ...]:
    """Return the segments of a template without the names of its parameters."""
    return tuple(PARAMETER.sub(_nameless, segment) for segment in split(template))


def _nameless(parameter: re.Match[str]) -> str:
    return "{:path}" if parameter[0].endswith(":path}") else "{}"


def names_of(segment: str) -> str:
    """Return the names of the parameters in a template segment, in lower case."""
    return ",".join(name.lower().replace("_", "") for name in PARAMETER.findall(segment))


def are_alike(one: str, other: str) -> bool:
    """Return whether two template segments of one shape have parameters of like names.

    `{item_id}` is like `{id}`; `{slug}` is not: it may be another name of the same thing.
    """
    pairs = zip(names_of(one).split(","), names_of(other).split(","), strict=True)
    return all(a in b or b in a for a, b in pairs)


def is_parameter(segment: str) -> bool:
    """Return whether the segment of a template holds a parameter."""
    return "{" in segment


def spans_segments(template: str) -> bool:
    """Return whether the template ends in a parameter that takes slashes (`{name:path}`)."""
    return template.endswith(":path}")


def pattern_of(template: str) -> str:
    """Return the path of a `Rule` about all paths of a template, or of one without names."""
    parts = ("**" if spans_segments(part) else part for part in template.split("/"))
    return "/".join("*" if part == "{}" else part for part in parts)


def overlap(a: str, b: str) -> bool:
    """Return whether one segment can stand for both template segments."""
    return a == b or is_parameter(a) or is_parameter(b)


def fill(segments: Sequence[str], params: Mapping[str, str]) -> str:
    """Return the path of these template segments, with its parameters filled in."""
    template = "/" + "/".join(segments)
    return PARAMETER.sub(lambda name: params.get(name[1], name[0]), template)


def prefixes(path: str) -> list[str]:
    """Return every path above `path`, the root first, and itself last."""
    segments = split(path)
    return ["/" + "/".join(segments[:length]) for length in range(len(segments) + 1)]


def parent(path: str) -> str:
    """Return the path directly above this one."""
    return "/" + "/".join(split(path)[:-1])
