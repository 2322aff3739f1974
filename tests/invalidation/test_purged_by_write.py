"""Reach of writes: groups purge exactly what is not provably about something else."""

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import product
from typing import Any, Final

import pytest
from fastapi import FastAPI
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from maxage.invalidation.group_names import ORPHAN_GROUP
from maxage.invalidation.groups import PurgeMode, RouteGroups
from maxage.routing.route_policy import RoutePolicy
from maxage.routing.route_table import RouteInfo, RouteMatch, RouteTable
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


def is_surely_related(write: RouteMatch, read: RouteMatch, depth: int) -> bool:
    """Whether no parameter of the write stands where the read has a word."""
    one, other = (split(match.route.template)[depth:] for match in (write, read))
    return one[:1] == other[:1] or is_parameter(other[0])


def names_tree(one: RouteMatch, other: RouteMatch, depth: int) -> bool:
    """Whether a word of one, behind its own tree, is the name of the other one's tree."""
    mine, its = (split(match.route.template)[depth:] for match in (one, other))
    tree = its[0] if its else ""
    return not is_parameter(tree) and tree not in mine[:1] and tree in mine[1:]


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
        reaching = [w for w in everything if not is_proven(w, read)]
        is_known = (
            mode == "unproven"
            or any(is_surely_related(w, read, depth) for w in reaching)
            or {w.route.template for w in reaching} == {w.route.template for w in changes}
        )
        if mode == "matching":
            named = [w for w in changes if names_tree(w, read, depth)]
            known = {w.route.template for w in (*reaching, *named)}
            if any(names_tree(read, w, depth) and w.route.template not in known for w in changes):
                is_known = False
            reaching += named
        due = {id(w) for w in (reaching if is_known else changes)}
        for write in changes:
            does = not purged[id(write)].isdisjoint(stored[id(read)])
            if id(write) in due:
                assert does, (write.route.template, write.path, read.path)
            elif not groups.reach.is_coarse:
                assert not does, (write.route.template, write.path, read.path)


NESTED: Final = {
    "GET /categories/{n}/items": "PUT /items/{n}",
    "GET /users/{n}/item": "POST /items",
    "GET /items": "POST /users/{n}/items",
    "GET /items/{n}": "POST /users/{n}/items",
    "GET /books": "DELETE /admin/books/{n}",
    "GET /admin/books": "PUT /books/{n}",
    "GET /v2/books": "PUT /v1/admin/books/{n}",
}


@pytest.mark.parametrize(("read", "write"), NESTED.items())
@pytest.mark.parametrize("at", ["", "/api"])
def test_a_word_of_a_path_that_names_another_tree_is_about_that_tree(
    read: str, write: str, at: str
) -> None:
    """Though each tree has writes of its own."""
    app = FastAPI(openapi_url=None)
    for one in (read, write):
        method, _, path = one.partition(" ")
        own = at + "/".join(path.split("/")[: 3 if path[1] == "v" else 2])
        app.api_route(at + path, methods=[method])(endpoint)
        app.put(own)(endpoint)
        app.get(own + "/of-its-own")(endpoint)
    app.put(at + "/other")(endpoint)
    of = read_routes(app.routes)
    groups = RouteGroups(of)
    [(method, _, path), (_, _, shown)] = (one.partition(" ") for one in (write, read))
    match = of.match("GET", at + shown.replace("{n}", "7"))
    purging = of.match(method, at + path.replace("{n}", "5"))
    assert match is not None
    assert not set(groups.groups_of(match)).isdisjoint(groups.touched_by(purging))


def unversioned(match: RouteMatch) -> RouteMatch:
    """The same path of the same template, without its first segment."""
    template, path = (
        "/" + text[1:].partition("/")[2] for text in (match.route.template, match.path)
    )
    return RouteMatch(route=replace(match.route, template=template), path=path, params=match.params)


@pytest.mark.parametrize("mode", MODES)
@given(reads=TEMPLATES, writes=TEMPLATES, isolated=st.booleans())
def test_a_write_in_one_version_purges_what_another_shows_of_its_tree(
    mode: PurgeMode, reads: Any, writes: Any, *, isolated: bool
) -> None:
    """Whatever else the two versions read and write."""
    app = FastAPI(openapi_url=None)
    for at, methods, templates in (("/v2", ["GET"], reads), ("/v1", ["PUT"], writes)):
        for template in templates:
            app.api_route(at + unique_names(template), methods=methods)(endpoint)
    policy = RoutePolicy(cache=True, default_lifetime=1.0, isolated=isolated)
    of = read_routes(app.routes)
    groups = RouteGroups(of, mode, lambda _: policy)
    for write, read in product(matches(of, "PUT"), matches(of, "GET")):
        one, other = unversioned(write), unversioned(read)
        if is_related(one, other, 0) and not is_proven(one, other):
            stored = set(groups.groups_of(read)) - {ORPHAN_GROUP}
            assert not stored.isdisjoint(groups.touched_by(write)), (write.path, read.path)


@pytest.mark.parametrize(("mode", "most"), [("matching", 3), ("unproven", 3)])
@given(reads=TEMPLATES, writes=TEMPLATES)
def test_a_response_is_in_few_groups_besides_those_of_its_path(
    mode: PurgeMode, most: int, reads: Any, writes: Any
) -> None:
    """A lookup reads two or three tokens more than there are segments, whatever the routes.

    One of them is the namespace's, and one that of all orphans, or of a bundle.
    """
    of = table(reads, writes, "")
    groups = RouteGroups(of, mode)
    for read in matches(of, "GET"):
        assert len(groups.groups_of(read)) <= len(split(read.path)) + most, read.path


class Release:
    """An application with a list, members and their writes for each name."""

    def __init__(self, names: Iterable[str], *, isolated: Collection[str] = ()) -> None:
        app = FastAPI(openapi_url=None)
        for name in names:
            app.api_route(f"/{name}", methods=["GET", "POST"])(endpoint)
            app.api_route(f"/{name}/{{n}}", methods=["GET", "PUT"])(endpoint)
        self._isolated = isolated
        self._table = read_routes(app.routes)
        self._groups = RouteGroups(self._table, "unproven", self._policy)

    def _policy(self, route: RouteInfo) -> RoutePolicy:
        isolated = split(route.template)[0] in self._isolated
        return RoutePolicy(cache=True, default_lifetime=1.0, isolated=isolated)

    def purged(self, method: str, path: str) -> set[str]:
        return set(self._groups.touched_by(self._table.match(method, path)))

    def stored(self, path: str) -> set[str]:
        match = self._table.match("GET", path)
        assert match is not None
        return set(self._groups.groups_of(match))


FIFTY: Final = tuple(f"tree{n}" for n in range(50))


@pytest.mark.parametrize(
    ("method", "path", "most"), [("POST", "/tree7", 8), ("PUT", "/tree7/5", 20)]
)
def test_a_write_among_fifty_trees_renews_few_groups(method: str, path: str, most: int) -> None:
    """It does not name each."""
    assert len(Release(FIFTY).purged(method, path)) <= most


@given(
    older=st.sets(st.sampled_from(FIFTY), min_size=2),
    newer=st.sets(st.sampled_from(FIFTY), min_size=2),
    isolated=st.sets(st.sampled_from(FIFTY)),
)
def test_a_release_with_other_trees_purges_what_an_older_one_stored(
    older: set[str], newer: set[str], isolated: set[str]
) -> None:
    """Workers of both run side by side; the older may call reads isolated that no longer are."""
    one, other = Release(sorted(older), isolated=isolated), Release(sorted(newer))
    write, *reads = sorted(older & newer) or [""]
    for read in reads:
        if read not in isolated:
            purged = other.purged("PUT", f"/{write}/5")
            assert not one.stored(f"/{read}/5").isdisjoint(purged), read
