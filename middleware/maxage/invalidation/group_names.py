"""The names of groups: of paths, collections and tags."""

from maxage.store.tokens import NAMESPACE_GROUP


def path_group(path: str) -> str:
    """Return the group of a path and of everything beneath it."""
    return "p:" + _normal(path)


def collection_group(path: str) -> str:
    """Return the group of the views of a collection: the list, its queries, its searches."""
    return "c:" + _normal(path)


def tag_group(tag: str) -> str:
    """Return the group of a tag."""
    return "g:" + tag


def named_groups(name: str) -> tuple[str, ...]:
    """Return the groups that a name means: those of a path if it begins with /, else of a tag.

    A path is meant with all its queries and all that lies beneath it.
    """
    if name.startswith("/"):
        path = name.partition("?")[0]
        # All that there is lies beneath the root.
        whole = (NAMESPACE_GROUP,) if not path.strip("/") else ()
        return (path_group(path), collection_group(path), *whole)
    return (tag_group(name),)


def _normal(path: str) -> str:
    # Slashes at the end, or several in a row, name the same resource for the purposes of a purge:
    # merging two names only ever purges more.
    path = path.strip("/")
    return "/" + ("/".join(filter(None, path.split("/"))) if "//" in path else path)
