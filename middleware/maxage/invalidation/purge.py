"""Purging and tagging by hand: from handlers, dependencies, background tasks, threads and scripts.

Inside a request the store is that of its middleware; elsewhere, and with `settings=`, the one that
the settings name. A purge inside a request is made at once, and again when the application call has
returned, since what it belongs to may be committed only then.

A soft purge (`soft=True`) leaves stored responses where they are: each is served once more while it
is refreshed in the background. It is no part of the promise that nothing older than an acknowledged
write is served.
"""

from collections.abc import Iterable, Sequence

from maxage.errors import SettingsError
from maxage.invalidation.dependencies import Dependencies, current_dependencies
from maxage.invalidation.group_names import named_groups, tag_group
from maxage.settings import CacheSettings, settings_from_environment
from maxage.store.base import Store, SyncStore
from maxage.store.tokens import NAMESPACE_GROUP
from maxage.store_factory import store_for, sync_half

__all__ = [
    "apurge",
    "apurge_all",
    "apurge_path",
    "apurge_tags",
    "purge",
    "purge_all",
    "purge_path",
    "purge_tags",
    "tag",
]


def tag(*tags: str) -> None:
    """Put the response that is being made into the groups of these tags.

    A tag that is not known for the URL yet was not looked at before the handler ran, so that the
    first such response is not stored; the second one is. Outside of a request it does nothing.

    Raises:
        SettingsError: a tag is no string, or empty.
    """
    dependencies = current_dependencies.get()
    for group in _tag_groups(tags, "tag()"):
        if dependencies is not None:
            dependencies.tag(group)


def purge(*names: str, soft: bool = False, settings: CacheSettings | None = None) -> bool:
    """Purge paths and tags: a name that begins with / is a path, any other one a tag.

    Args:
        names: such as `/items/5` (with all its queries and what lies beneath it) and `item:5`.
        soft: serve what is stored once more, while it is refreshed in the background.
        settings: which store; by default that of the request, or of the environment.

    Returns:
        Whether the purge is confirmed. One that is not is made up for as soon as Redis is back,
        before anything is read from it.

    Raises:
        SettingsError: a name is no string, or empty.
    """
    return _purge_now(_name_groups(names), soft, settings)


async def apurge(*names: str, soft: bool = False, settings: CacheSettings | None = None) -> bool:
    """Purge paths and tags, as `purge` does."""
    return await _purge(_name_groups(names), soft, settings)


def purge_tags(*tags: str, soft: bool = False, settings: CacheSettings | None = None) -> bool:
    """Purge every response, and every object of the typed cache, that has one of the tags.

    Returns:
        Whether the purge is confirmed; see `purge`.

    Raises:
        SettingsError: a tag is no string, or empty.
    """
    return _purge_now(_tag_groups(tags, "purge_tags()"), soft, settings)


async def apurge_tags(
    *tags: str, soft: bool = False, settings: CacheSettings | None = None
) -> bool:
    """Purge tags, as `purge_tags` does."""
    return await _purge(_tag_groups(tags, "apurge_tags()"), soft, settings)


def purge_path(path: str, *, soft: bool = False, settings: CacheSettings | None = None) -> bool:
    """Purge a path with all its queries and variants, and all that lies beneath it.

    Args:
        path: as the router sees it, without a root path; it begins with /.
        soft: serve what is stored once more, while it is refreshed in the background.
        settings: which store; by default that of the request, or of the environment.

    Returns:
        Whether the purge is confirmed; see `purge`.

    Raises:
        SettingsError: the path does not begin with /.
    """
    return _purge_now(_path_groups(path, "purge_path()"), soft, settings)


async def apurge_path(
    path: str, *, soft: bool = False, settings: CacheSettings | None = None
) -> bool:
    """Purge a path, as `purge_path` does."""
    return await _purge(_path_groups(path, "apurge_path()"), soft, settings)


def purge_all(*, soft: bool = False, settings: CacheSettings | None = None) -> bool:
    """Purge every response and every object of the typed cache, of the whole namespace.

    Returns:
        Whether the purge is confirmed; see `purge`.
    """
    return _purge_now((NAMESPACE_GROUP,), soft, settings)


async def apurge_all(*, soft: bool = False, settings: CacheSettings | None = None) -> bool:
    """Purge everything, as `purge_all` does."""
    return await _purge((NAMESPACE_GROUP,), soft, settings)


def _purge_now(groups: Sequence[str], soft: bool, settings: CacheSettings | None) -> bool:
    store = _store(settings)
    if store is None:
        return False
    half: SyncStore = sync_half(store)
    _note(store, groups, soft)
    if not groups:
        return True
    return half.soften_now(groups) if soft else None not in half.renew_now(groups)


async def _purge(groups: Sequence[str], soft: bool, settings: CacheSettings | None) -> bool:
    store = _store(settings)
    if store is None:
        return False
    _note(store, groups, soft)
    if not groups:
        return True
    return await store.soften(groups) if soft else None not in await store.renew(groups)


def _store(settings: CacheSettings | None) -> Store | None:
    """Return the store that is meant, or None where caching is switched off."""
    dependencies = current_dependencies.get()
    if settings is None and dependencies is not None:
        return dependencies.store
    settings = settings if settings is not None else settings_from_environment()
    return store_for(settings) if settings.use_redis_cache else None


def _note(store: Store, groups: Iterable[str], soft: bool) -> None:
    """Have the request, where there is one, purge the groups again at its end."""
    dependencies: Dependencies | None = current_dependencies.get()
    if dependencies is not None and dependencies.authority is store.authority:
        for group in groups:
            (dependencies.soften if soft else dependencies.touch)(group)


def _name_groups(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(g for name in names for g in named_groups(_checked(name, "purge()")))


def _tag_groups(tags: Iterable[str], where: str) -> tuple[str, ...]:
    return tuple(tag_group(_checked(one, where)) for one in tags)


def _path_groups(path: str, where: str) -> tuple[str, ...]:
    if not _checked(path, where).startswith("/"):
        raise SettingsError(f"{where} got {path!r}; it takes a path, which begins with /.")
    return named_groups(path)


def _checked(name: object, where: str) -> str:
    if not isinstance(name, str) or not name:
        raise SettingsError(f"{where} got {name!r}; it takes strings that are not empty.")
    return name
