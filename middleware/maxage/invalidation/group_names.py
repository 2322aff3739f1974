"""Names of groups: of paths, collections and tags."""

from maxage.store.tokens import NAMESPACE_GROUP


def path_group(path: str) -> str:
    """Return the group of a path and of all paths beneath it."""
    return "p:" + _normal(path)


def collection_group(path: str) -> str:
    """Return the group of the views of a collection: the list, its queries, its searches."""
    return "c:" + _normal(path)


def tag_group(tag: str) -> str:
    """Return the group of a tag."""
    return "g:" + tag


def named_groups(name: str) -> tuple[str, ...]:
    """Return the groups of a name: of a path if it begins with /, else of a tag.

    A path includes all its queries and all paths beneath it.
    """
    if name.startswith("/"):
        path = name.partition("?")[0]
        # All paths lie beneath the root.
        whole = (NAMESPACE_GROUP,) if not path.strip("/") else ()
        return (path_group(path), collection_group(path), *whole)
    return (tag_group(name),)


def _normal(path: str) -> str:
    # Slashes at the end, or several in a row, are ignored: merging two names only purges more.
    path = path.strip("/")
    return "/" + ("/".join(filter(None, path.split("/"))) if "//" in path else path)
