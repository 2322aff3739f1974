"""Names of groups: of paths, collections and tags."""

import re
from typing import Final
from urllib.parse import unquote

from maxage.invalidation.root_paths import inner_paths
from maxage.store.tokens import NAMESPACE_GROUP

_ORIGIN: Final = re.compile(r"(?i)https?://[^/?#]*")
_BENEATH: Final = re.compile(r"/\*{1,2}(?:/.*)?$", re.DOTALL)

ORPHAN_GROUP: Final = "o"
"""The group of all reads that no write is known for; every write renews it."""
TABLE_TAG: Final = "sql"
"""The first part of the tags of databases and their tables; see `maxage.sqlalchemy`."""
ROW_TAG: Final = "row"
"""The first part of the tags of their rows."""
_TABLE_STEM: Final = f"g:{TABLE_TAG}:"
_ROW_STEM: Final = f"g:{ROW_TAG}:"


def path_group(path: str) -> str:
    """Return the group of a path and of all paths beneath it."""
    return "p:" + _normal(path)


def collection_group(path: str) -> str:
    """Return the group of a path alone, with its queries: the list of a collection."""
    return "c:" + _normal(path)


def members_group(path: str) -> str:
    """Return the group of a path that ends in any value of a parameter, and of all beneath.

    Its last segment is a shape, such as `{}`.
    """
    return "m:" + _normal(path)


def bundle_group(path: str) -> str:
    """Return the group of a bundle of trees of routes; its path is their prefix and its number."""
    return "b:" + _normal(path)


def tag_group(tag: str) -> str:
    """Return the group of a tag."""
    return "g:" + tag


def is_table_group(group: str) -> bool:
    """Return whether it is the group of a database or of a table."""
    return group.startswith(_TABLE_STEM)


def is_row_group(group: str) -> bool:
    """Return whether it is the group of a row."""
    return group.startswith(_ROW_STEM)


def named_groups(name: str, *, mounted_at: str = "") -> tuple[str, ...]:
    """Return the groups of a name: of a path if `named_path` finds one, else of a tag.

    A path includes all its queries and all paths beneath it.

    Args:
        name: a path or a tag.
        mounted_at: where the application that names it is mounted, as the middleware sees it.
    """
    path = named_path(name)
    if path is None:
        return (tag_group(name),)
    # Decoded or not, and with `?`, `#` or blanks that are a part of it, with a root path or the
    # path of a mount and without: only more is purged.
    spellings = dict.fromkeys((unquote(path), path, name if name.startswith("/") else path))
    inner = [each for spelling in spellings for each in inner_paths(spelling)]
    outer = [mounted_at + spelling for spelling in spellings] if mounted_at else ()
    paths = dict.fromkeys((*spellings, *inner, *outer))
    # All paths lie beneath the root.
    whole = () if all(path.strip("/") for path in paths) else (NAMESPACE_GROUP,)
    return (*map(path_group, paths), *whole)


def named_path(name: str) -> str | None:
    """Return the path that a name means, or None if the name is a tag.

    A path begins with `/` or with `http://` or `https://` and a host. Blanks around it, its query
    and its fragment are left out, and what follows a segment `*` or `**`: it lies beneath.
    """
    text = name.strip()
    origin = _ORIGIN.match(text)
    if origin is None and not text.startswith("/"):
        return None
    path = re.split("[?#]", text[origin.end() :] if origin else text, maxsplit=1)[0]
    return _BENEATH.sub("", path) or "/"


def _normal(path: str) -> str:
    # Slashes at the end, or several in a row, are ignored: merging two names only purges more.
    path = path.strip("/")
    return "/" + ("/".join(filter(None, path.split("/"))) if "//" in path else path)
