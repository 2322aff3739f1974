"""Reach of writes: which reads a write may have made stale, by the templates of all routes.

A write reaches every read of its tree that is not provably about something else. Proof: both
templates are the same up to a path parameter, and its values differ (`/items/5/history` for a write
to `/items/6`). Parameters of unlike names, such as `{slug}` and `{id}`, are not the same. A tree is
the routes that share their first segment, behind prefixes that are no resource themselves, such as
`/api/v1`. A parameter as first segment belongs to all trees beside it, the root included. Versions
(`/v1`, `/v2`, or none) have their trees in common, and so have `/books`, `/book` and
`/books:import`.

A write walks down the templates of all reads along its own path, filled with its values:

- Its path, from its last parameter on, proves nothing: one `p:` group purges all beneath.
- Above that, at each segment: reads that end there are in `c:` of the path so far. Reads that go on
  with another word are in `p:` of that word. Reads that go on with a parameter where the write has
  a word are in `m:`, the group of all its values. With the same parameter the walk goes on.

So `PUT /items/5` renews `p:/items/5`, `c:/items` and `p:/items/search`; `PATCH /users/update/5`
renews `p:/users/update/5`, `p:/users/list` and `p:/users/get`.

Every response is in the `p:` groups of its path and of those above it anyway. It is in a `c:` or
`m:` group only where some write renews that, and in one at most. Where a read would need more, the
writes that need the others renew `p:` of the path so far instead, which also purges reads that are
provably about something else.

A write that reaches all trees does not name each. The trees beneath one prefix are in a few
bundles, by their names alone, so that releases with other routes agree. Every read that is not
isolated is in `b:` of its tree's bundle. A write renews `b:` of all bundles but its own tree's, and
`p:` of the other trees in that one; where it purges its whole tree, `b:` of all.

A later word of a path may name another tree: `POST /users/{id}/items` changes what `/items` shows,
so that it purges that tree. And `/users/{id}/items` shows what `PUT /items/5` changes: such a read
is an orphan (`shows_another`).

A write that takes operations, such as `POST /graphql`, reaches all reads that are not isolated, by
their first segments, and isolated ones of its own tree. Its path tells of none of them, so that
they may be orphans all the same.
"""

import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple, final

from maxage.routing.operations import takes_operations
from maxage.routing.route_table import RouteInfo
from maxage.routing.template import are_alike, is_parameter, names_of, shape, split

_VERSION: Final = re.compile(
    r"v[0-9]+([._-]?[0-9a-z]+)*|[0-9]{4}-[0-9]{2}(-[0-9]{2})?|latest", re.IGNORECASE
)
"""Names of literal segments that are versions of all that lies beneath them."""
_PREFIX_WORD: Final = re.compile(rf"api|rest|{_VERSION.pattern}", re.IGNORECASE)
"""Names of literal segments that are usual as prefixes of all resources."""

_BUNDLES: Final = 6
"""Bundles of trees. Among fifty trees a write to one member renews some 13 groups of others."""


def _bundle_of(tree: str) -> str:
    """Return the number of the bundle that a tree of this name is in."""
    return str(zlib.crc32(tree.encode("utf-8", "surrogatepass")) % _BUNDLES)


@final
class Node:
    """One segment of some templates, and all that lies beneath it."""

    __slots__ = (
        "all_reads", "children", "declared", "is_prefix", "is_version", "parent", "plurals",
        "reads", "segment", "word", "writes",
    )  # fmt: skip

    def __init__(self, segment: str = "", parent: "Node | None" = None) -> None:
        self.declared: Final[set[str]] = set()
        """The segments of templates that it stands for; each is like each other."""
        self.segment: Final = segment
        """A word, or the shape of a segment with parameters; see `own_segment`."""
        self.word: Final = _word(segment)
        self.plurals: Final = _plurals_of(self.word)
        self.parent: Final = parent
        self.children: Final[dict[str, Node]] = {}
        self.reads: Final[list[RouteInfo]] = []
        """The reads that end here."""
        self.all_reads: Final[list[RouteInfo]] = []
        """The reads that end here or beneath."""
        self.writes: Final[list[RouteInfo]] = []
        self.is_prefix = parent is None
        """Whether it is a prefix of trees and belongs to none; so is the root."""
        self.is_version = False
        """Whether it is a version of all that lies beneath it: a prefix, or one tree, such as a
        version that only shows what another one changes."""

    def add(self, template: str) -> "Node":
        """Return the node at the end of a template, made where it is missing."""
        node = self
        for declared in split(template):
            segment = node.own_segment(declared)
            if segment not in node.children:
                node.children[segment] = Node(segment, node)
            node = node.children[segment]
            node.declared.add(declared)
        return node

    def own_segment(self, declared: str) -> str:
        """Return how the tree names a segment of a template beneath this node.

        Parameters of like names are one. Those of an unlike name show it behind their shape.
        """
        (segment,) = shape(declared)
        if not is_parameter(segment):
            return segment
        alike = [
            child.segment
            for child in self.children.values()
            if all(shape(one) == (segment,) and are_alike(one, declared) for one in child.declared)
        ]
        # One that was added has its node, and may be like those of others.
        added = [one for one in alike if declared in self.children[one].declared]
        if alike:
            return (added or alike)[0]
        return segment + names_of(declared) if segment in self.children else segment

    def beneath(self) -> Iterator["Node"]:
        """Yield this node and all beneath it."""
        yield self
        for child in self.children.values():
            yield from child.beneath()

    def versions(self) -> set[str]:
        """Return the segments beneath this node that are versions of one API."""
        return {segment for segment, child in self.children.items() if child.is_version}

    def above(self) -> list["Node"]:
        """Return the nodes from the first segment to this one."""
        return [] if self.parent is None else [*self.parent.above(), self]


class Hit(NamedTuple):
    """One group that a write renews."""

    kind: str
    """`p`, `c`, `m` or `b`."""
    segments: tuple[str, ...]
    """The path in the group's name, with the parameters of the write."""
    node: Node
    """The place whose reads are in the group: for `c` those that end there, else all beneath. For
    `b` a node that stands for the bundle."""
    inside: bool
    """Whether it lies in the write's own tree."""
    guessed: bool = False
    """Whether only a plural makes its tree the write's own, or the write is one of operations: its
    reads may show something else."""
    beside: bool = False
    """Whether only a parameter of the write at the place of their word does so."""

    def reads(self) -> list[RouteInfo]:
        """Return the reads in the group."""
        return self.node.reads if self.kind == "c" else self.node.all_reads

    def sure_reads(self) -> list[RouteInfo]:
        """Return the reads in the group that show what the write changes.

        All reads lie beneath the root, and only those that end there are its own.
        """
        if self.guessed or self.beside:
            return []
        return self.node.reads if self.node.parent is None else self.reads()


@final
class Reach:
    """The reach of all writes of an application.

    Args:
        reads: the routes whose responses may be stored.
        writes: the routes that may change something.
        isolated: the reads that no write of another tree reaches.
        everywhere: True: a write reaches all trees, its own only by default.
    """

    def __init__(
        self,
        reads: Collection[RouteInfo],
        writes: Collection[RouteInfo],
        *,
        isolated: Collection[RouteInfo] = (),
        everywhere: bool = False,
    ) -> None:
        self._everywhere: Final = everywhere
        self._isolated: Final = frozenset(isolated)
        self._root: Final = Node()
        self._nodes: Final = {read: self._root.add(read.template) for read in reads}
        for read, node in self._nodes.items():
            node.reads.append(read)
            for above in (self._root, *node.above()):
                above.all_reads.append(read)
        for write in writes:
            # A mounted application is no sign of a tree: which routes it has is unknown.
            if not write.opaque:
                self._root.add(write.template).writes.append(write)
        _mark_prefixes(self._root)
        self._bundles: Final[dict[Node, dict[str, Node]]] = {}
        """The bundles of the trees beneath each prefix, by their numbers."""
        if everywhere:
            self._bundle()
        self._trees: Final[dict[str, list[Node]]] = {}
        """The trees by their word, and by what its plural may be."""
        self._index_trees()
        self._written: Final[dict[Node, list[RouteInfo]]] = {}
        """The writes of each tree."""
        for write in writes:
            if not write.opaque:
                for node in self._in_tree(write.template)[:1]:
                    self._written.setdefault(node, []).append(write)
        self._coarse: Final[set[Node]] = set()
        """Nodes where a write renews `p:`, since a read has no room for another group."""
        self.hits: dict[RouteInfo, list[Hit]] = {}
        self._walk_all(writes)
        for node in self._nodes.values():
            self._coarse.update(self._too_many(node))
        self.is_coarse: Final = bool(self._coarse)
        """Whether some writes purge reads that are provably about something else."""
        if self._coarse:
            self._walk_all(writes)

    def _bundle(self) -> None:
        """Put each read that is not isolated into the bundle of its tree."""
        for read in self._nodes:
            prefix, tree = self._place(read)
            if tree is not None and read not in self._isolated:
                number = _bundle_of(tree.segment)
                bundle = self._bundles.setdefault(prefix, {}).setdefault(
                    number, Node(number, prefix)
                )
                bundle.all_reads.append(read)

    def _place(self, read: RouteInfo) -> tuple[Node, Node | None]:
        """Return the prefix of a read's tree, and the tree; None: it is in none that has a name."""
        prefix = self._root
        for node in self._nodes[read].above():
            if not (node.is_prefix or node.is_version):
                return prefix, None if is_parameter(node.segment) else node
            prefix = node
        return prefix, None

    def _walk_all(self, writes: Collection[RouteInfo]) -> None:
        self.hits = {write: list(self.hits_of(write)) for write in writes}
        hits = [hit for hits in self.hits.values() for hit in hits]
        self._renewed_inside = {(hit.kind, hit.node) for hit in hits if hit.inside}
        self._renewed_outside = {(hit.kind, hit.node) for hit in hits if not hit.inside}

    def groups_of(self, read: RouteInfo) -> list[tuple[str, tuple[str, ...]]]:
        """Return the groups of a read besides those of its path, each as a `Hit` names it."""
        path = tuple(split(read.template))
        named: list[tuple[str, tuple[str, ...]]] = []
        for kind, node in self._wanted(self._nodes[read]):
            above = path[: len(node.above())]
            named.append((kind, (*above[:-1], node.segment) if kind == "m" else above))
        prefix, tree = self._place(read)
        if self._everywhere and tree is not None and read not in self._isolated:
            named.append(("b", (*path[: len(prefix.above())], _bundle_of(tree.segment))))
        return named

    def reached(self, writes: Collection[RouteInfo]) -> set[RouteInfo]:
        """Return the reads that these writes reach."""
        return {read for write in writes for hit in self.hits[write] for read in hit.reads()}

    def surely_reached(self, writes: Collection[RouteInfo]) -> set[RouteInfo]:
        """Return the reads that these writes reach by more than a guess."""
        return {read for write in writes for hit in self.hits[write] for read in hit.sure_reads()}

    def reached_by_all(self, writes: Collection[RouteInfo]) -> set[RouteInfo]:
        """Return the reads that each of these writes reaches, by more than a plural."""
        each = [
            {read for hit in self.hits[write] if not hit.guessed for read in hit.reads()}
            for write in writes
        ]
        return each[0].intersection(*each[1:]) if each else set()

    def shows_another(self, read: RouteInfo, writes: Collection[RouteInfo]) -> bool:
        """Return whether a word of the read names the tree of a write that does not reach it."""
        return any(
            write in writes and not any(read in hit.reads() for hit in self.hits[write])
            for tree in self._named(read.template)
            for write in self._written.get(tree, ())
        )

    def _named(self, template: str) -> set[Node]:
        """Return the trees that words of a template name behind its own tree."""
        own, *behind = self._in_tree(template) or [self._root]
        words = {word for node in behind for word in (node.word, *node.plurals)}
        return {tree for word in words for tree in self._trees.get(word, ())} - {own}

    def _in_tree(self, template: str) -> list[Node]:
        """Return the nodes of a template from its tree on."""
        above = self._root.add(template).above()
        return [node for node in above if not (node.is_prefix or node.is_version)]

    def _index_trees(self) -> None:
        """Find the trees by their words; one at a path with parameters is none of these."""
        waiting = [self._root]
        while waiting:
            for node in waiting.pop().children.values():
                if is_parameter(node.segment):
                    continue
                if node.is_prefix or node.is_version:
                    waiting.append(node)
                else:
                    for word in {node.word, *node.plurals}:
                        self._trees.setdefault(word, []).append(node)

    def hits_of(self, write: RouteInfo) -> Iterator[Hit]:
        """Yield the groups that a write by this route renews, besides that of its path."""
        path = tuple(split(write.template))
        if not path:
            # All paths lie beneath the root.
            yield Hit("p", (), self._root, inside=True)
        elif takes_operations(write.template):
            own = () if write.opaque else self._walk(self._root, path, 0, inside=False)
            for hit in (*own, *self._all()):
                yield hit._replace(guessed=True)
        else:
            yield from self._walk(self._root, path, 0, inside=False)
            if not self._everywhere:
                for tree in self._named(write.template):
                    named = tuple(node.segment for node in tree.above())
                    for hit in self._all_beneath(tree, named, inside=False):
                        yield hit._replace(guessed=True)

    def _all(self) -> Iterator[Hit]:
        """Yield the groups of all reads that are not isolated."""
        if self._root.reads:
            yield Hit("c", (), self._root, inside=False)
        for node in self._root.children.values():
            yield from self._all_there(node, (), inside=False)

    def _walk(self, node: Node, path: Sequence[str], depth: int, *, inside: bool) -> Iterator[Hit]:
        done, rest = tuple(path[:depth]), path[depth:]
        if inside and self._is_whole(node, rest):
            yield from self._all_beneath(node, done, inside=True)
            return
        own = node.own_segment(rest[0]) if rest else ""
        versions = set[str]() if inside or is_parameter(own) else node.versions()
        version = own if own in versions else ""
        if version:
            path = (*done, *rest[1:])
            own = node.own_segment(rest[1]) if rest[1:] else ""
        in_tree = inside or is_parameter(own)
        if node.reads and (in_tree or self._everywhere):
            yield Hit("c", done, node, in_tree)
        bundles = {} if in_tree else self._bundles_beside(node, own, path[depth + 1 :])
        for number, bundle in bundles.items():
            yield Hit("b", (*done, number), bundle, inside=False)
        word = _word(own)
        plurals = _plurals_of(word)
        for segment, child in node.children.items():
            if segment in versions:
                its_path = (*done, segment, *path[depth:])
                beneath = segment == version and not child.is_prefix
                yield from self._walk(child, its_path, depth + 1, inside=beneath)
            elif segment == own:
                beneath = inside or not child.is_prefix
                yield from self._walk(child, path, depth + 1, inside=beneath)
            else:
                sure = inside or is_parameter(segment) or word == child.word
                related = sure or in_tree or child.word in plurals or word in child.plurals
                if related or (self._everywhere and not _is_within(child, bundles)):
                    doubted = related and not sure and not self._everywhere
                    guessed, beside = doubted and not in_tree, doubted and in_tree
                    for hit in self._all_there(child, done, inside=related):
                        yield hit._replace(guessed=guessed, beside=beside)

    def _all_there(self, node: Node, done: tuple[str, ...], *, inside: bool) -> Iterator[Hit]:
        """Yield the groups of all reads beneath a node at the end of a path."""
        if is_parameter(node.segment):
            yield Hit("m", (*done, node.segment), node, inside)
        else:
            yield from self._all_beneath(node, (*done, node.segment), inside=inside)

    def _bundles_beside(self, prefix: Node, own: str, rest: Sequence[str]) -> dict[str, Node]:
        """Return the bundles beneath a prefix that a write renews, by their numbers.

        Args:
            prefix: the prefix.
            own: the next segment of the write's path.
            rest: the segments after that.
        """
        bundles, tree = self._bundles.get(prefix, {}), prefix.children.get(own)
        if tree is None or tree.is_prefix or self._is_whole(tree, rest):
            return bundles
        return {number: bundle for number, bundle in bundles.items() if number != _bundle_of(own)}

    def _is_whole(self, node: Node, rest: Sequence[str]) -> bool:
        """Return whether a write purges all beneath a node of its tree, by the rest of its path."""
        return node in self._coarse or not any(map(is_parameter, rest))

    def _all_beneath(self, node: Node, path: tuple[str, ...], *, inside: bool) -> Iterator[Hit]:
        """Yield the groups of all reads beneath a path, without isolated ones of other trees."""
        if inside or self._isolated.isdisjoint(node.all_reads):
            yield Hit("p", path, node, inside)
            return
        if not self._isolated.issuperset(node.reads):
            yield Hit("c", path, node, inside)
        for segment, child in node.children.items():
            if is_parameter(segment):
                yield Hit("m", (*path, segment), child, inside)
            else:
                yield from self._all_beneath(child, (*path, segment), inside=inside)

    def _wanted(self, node: Node) -> list[tuple[str, Node]]:
        """Return the `c` and `m` groups of the reads at this node, the shallowest first."""
        isolated = self._isolated.issuperset(node.reads)
        outside = frozenset[tuple[str, Node]]() if isolated else self._renewed_outside
        groups = [*(("m", above) for above in node.above()), ("c", node)]
        return [one for one in groups if one in self._renewed_inside or one in outside]

    def _too_many(self, node: Node) -> Iterator[Node]:
        """Yield the nodes where writes must renew `p:`, so that one group is enough here."""
        wanted = self._wanted(node)
        places = [
            above.parent if kind == "m" and above.parent else above
            for kind, above in wanted
            if (kind, above) not in self._renewed_outside
        ]
        # Above the trees there is no `p:` group to renew instead.
        replaceable = [place for place in places if not place.is_prefix]
        yield from replaceable if len(replaceable) < len(wanted) else replaceable[:-1]


def _is_within(tree: Node, bundles: Collection[str]) -> bool:
    """Return whether all reads beneath a node are in one of these bundles, as far as they can."""
    return not tree.is_prefix and bool(tree.all_reads) and _bundle_of(tree.segment) in bundles


def _mark_prefixes(root: Node) -> None:
    """Mark the nodes that are no resource, but a prefix of several."""
    used = [node for node in root.beneath() if node.parent and _is_used(node)]
    waiting = list(root.children.values())
    while waiting:
        node = waiting.pop()
        children = list(node.children.values())
        if _is_used(node):
            continue
        node.is_version = bool(_VERSION.fullmatch(node.segment))
        if not any(map(_is_resource, children)):
            continue
        shared = all(node in one.above() for one in used)
        complete = not any(_writes_beneath(child) and not child.all_reads for child in children)
        if _PREFIX_WORD.fullmatch(node.segment) or (shared and complete):
            node.is_prefix = True
            waiting += children


def _word(segment: str) -> str:
    """Return the word of a literal segment, without a verb behind a colon."""
    return segment.partition(":")[0]


def _plurals_of(word: str) -> frozenset[str]:
    """Return what the plural of a word may be."""
    return frozenset({word + "s", word + "es", word.removesuffix("y") + "ies"})


def _is_used(node: Node) -> bool:
    return bool(node.writes) or not all(read.opaque for read in node.reads)


def _is_resource(node: Node) -> bool:
    return bool(node.all_reads) and _writes_beneath(node)


def _writes_beneath(node: Node) -> bool:
    return any(one.writes for one in node.beneath())
