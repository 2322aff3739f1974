"""Reach of writes: groups purge exactly what is not provably about something else."""

import re
from collections.abc import Sequence
from itertools import product
from typing import Any, Final

import pytest
from fastapi import FastAPI
from hypothesis import example, given
from hypothesis import strategies as st

from maxage.invalidation.groups import PurgeMode, RouteGroups
from maxage.routing.route_table import RouteMatch, RouteTable
from maxage.routing.router import read_routes
from maxage.routing.template import fill, is_parameter, split
from tests.support.routes import endpoint

SEGMENTS: Final = st.sampled_from(["a", "b", "{x}", "{y}", "v{x}"])
TEMPLATES: Final = st.lists(
    st.lists(SEGMENTS, min_size=1, max_size=4).map(tuple), min_size=1, max_size=5, unique=True
)
VALUES: Final = ("1", "2")
MODES: Final[Sequence[PurgeMode]] = ("matching", "unproven")


def unique_names(template: Sequence[str]) -> str:
    """The template, with a name of its own for each parameter."""
    named = (
        part.replace("{x}", f"{{x{n}}}").replace("{y}", f"{{y{n}}}")
        for n, part in enumerate(template)
    )
    return "/" + "/".join(named)


def table(reads: Sequence[Sequence[str]], writes: Sequence[Sequence[str]], at: str) -> RouteTable:
    """An application of these routes, and of one that keeps the others from sharing a prefix."""
    app = FastAPI(openapi_url=None)
    for template in reads:
        app.get(at + unique_names(template))(endpoint)
    for template in writes:
        app.put(at + unique_names(template))(endpoint)
    app.api_route("/other", methods=["GET", "PUT"])(endpoint)
    app.api_route(at + "/another", methods=["GET", "PUT"])(endpoint)
    return read_routes(app.routes)


def kinds(template: str) -> list[str]:
    """The segments, without the numbers that tell parameters of one template apart."""
    return [re.sub(r"[0-9]+\}", "}", segment) for segment in split(template)]


def is_proven(write: RouteMatch, read: RouteMatch) -> bool:
    """Whether both share a template up to a path parameter whose values differ."""
    one, other = kinds(write.route.template), kinds(read.route.template)
    pairs = zip(one, other, split(write.path), split(read.path), strict=False)
    for kind, its_kind, value, its_value in pairs:
        if kind != its_kind:
            return False
        if value != its_value:
            return True
    return False


def is_related(write: RouteMatch, read: RouteMatch, depth: int) -> bool:
    """Whether both are in one tree: their first segments are the same, or one is a parameter."""
    paths = split(write.route.template), split(read.route.template)
    if len({tuple(path[:depth]) for path in paths}) > 1:
        return False
    one, other = (path[depth:] for path in paths)
    return one[:1] == other[:1] or is_parameter(one[0]) or is_parameter(other[0])


def matches(of: RouteTable, method: str) -> list[RouteMatch]:
    """Each route with this method, for all values of its parameters."""
    found: list[RouteMatch] = []
    for route in of.routes:
        if route.accepts(method):
            names = list(route.regex.groupindex)
            for values in product(VALUES, repeat=len(names)):
                params = dict(zip(names, values, strict=True))
                path = fill(split(route.template), params)
                found.append(RouteMatch(route=route, path=path, params=params))
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at", ["", "/api/v1"])
@given(reads=TEMPLATES, writes=TEMPLATES)
@example(
    reads=[("a", "{x}", "b", "{y}")], writes=[("a", "b", "{x}"), ("a", "{x}", "b", "a", "{y}")]
)
def test_a_write_purges_whatever_is_not_provably_about_something_else(
    mode: PurgeMode, at: str, reads: Any, writes: Any
) -> None:
    """And nothing else, unless a read would need more than one group besides those of its path."""
    of = table(reads, writes, at)
    groups, depth = RouteGroups(of, mode), len(split(at))
    changes, shown = matches(of, "PUT"), matches(of, "GET")
    purged = {id(write): set(groups.touched_by(write)) for write in changes}
    stored = {id(read): set(groups.groups_of(read)) for read in shown}
    for read in shown:
        everything = [w for w in changes if mode == "unproven" or is_related(w, read, depth)]
        due = {id(w) for w in everything if not is_proven(w, read)} or {id(w) for w in changes}
        for write in changes:
            does = not purged[id(write)].isdisjoint(stored[id(read)])
            if id(write) in due:
                assert does, (write.route.template, write.path, read.path)
            elif not groups.reach.is_coarse:
                assert not does, (write.route.template, write.path, read.path)


@pytest.mark.parametrize("mode", MODES)
@given(reads=TEMPLATES, writes=TEMPLATES)
def test_a_response_is_in_one_group_besides_those_of_its_path_at_most(
    mode: PurgeMode, reads: Any, writes: Any
) -> None:
    """A lookup reads one token more than there are segments, whatever the application's routes."""
    of = table(reads, writes, "")
    groups = RouteGroups(of, mode)
    for read in matches(of, "GET"):
        assert len(groups.groups_of(read)) <= len(split(read.path)) + 1, read.path
