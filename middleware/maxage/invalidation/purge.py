"""Purges and tags by hand: from handlers, dependencies, background tasks, threads and scripts.

Inside a request, the store is that of its middleware; elsewhere, and with `settings=`, it is the
one that the settings name. A purge inside a request is made at once, and again when the application
call has returned: its change may be committed only then.

A soft purge (`soft=True`) leaves stored responses in place: each is served once more while it is
refreshed in the background. Such a response may be older than an acknowledged write.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Final

from maxage import settings_in_force
from maxage.background import runs_asyncio
from maxage.errors import SettingsError
from maxage.invalidation.dependencies import current_dependencies
from maxage.invalidation.group_names import named_groups, named_path, tag_group
from maxage.observe.counters import PROCESS
from maxage.observe.words import PurgeCause
from maxage.store.base import Store
from maxage.store.memory import MemoryStore
from maxage.store.tokens import NAMESPACE_GROUP
from maxage.store_factory import store_for, sync_half

logger = logging.getLogger("maxage")

_PLACEHOLDER: Final = re.compile(r"\{[a-zA-Z_]\w*(?::\w+)?\}")
"""A parameter of a template, as in a text that was meant to be an f-string."""


def tag(*tags: str) -> None:
    """Put the response of the current request into the groups of these tags.

    The first response of a URL with a new tag is not stored, since the tag's token was not read
    before the handler ran; the second one is. Outside a request, this does nothing.

    Raises:
        SettingsError: a tag is not a string, or is empty.
    """
    noted = current_dependencies.get()
    for group in _tag_groups(tags, "tag()"):
        if noted is not None:
            noted.note_tag(group)


def purge(
    *names: str, soft: bool = False, settings: "settings_in_force.CacheSettings | None" = None
) -> bool:
    """Purge paths and tags: a name that begins with / is a path, any other name is a tag.

    A path may also be percent-encoded, or a URL; its host does not count. It may begin with the
    root path, and in a mounted application leave out where that is mounted. A segment `*` or `**`
    stands for all paths beneath the one before it.

    Args:
        names: such as `/items/5` (with all its queries and all paths below it) and `item:5`.
        soft: serve stored responses once more, while they are refreshed in the background.
        settings: name the store; by default, that of the request or of the environment.

    Returns:
        Whether the purge is confirmed. If it is not, it is made as soon as Redis is back, before
        anything is read from Redis.

    Raises:
        SettingsError: a name is not a string, or is empty.
    """
    return purge_groups_now(_name_groups(names), soft, settings)


async def apurge(
    *names: str, soft: bool = False, settings: "settings_in_force.CacheSettings | None" = None
) -> bool:
    """Purge paths and tags; see `purge`."""
    return await purge_groups(_name_groups(names), soft, settings)


def purge_tags(
    *tags: str, soft: bool = False, settings: "settings_in_force.CacheSettings | None" = None
) -> bool:
    """Purge every response and every object of the typed cache that has one of the tags.

    Returns:
        Whether the purge is confirmed; see `purge`.

    Raises:
        SettingsError: a tag is not a string, or is empty.
    """
    return purge_groups_now(_tag_groups(tags, "purge_tags()"), soft, settings)


async def apurge_tags(
    *tags: str, soft: bool = False, settings: "settings_in_force.CacheSettings | None" = None
) -> bool:
    """Purge tags; see `purge_tags`."""
    return await purge_groups(_tag_groups(tags, "apurge_tags()"), soft, settings)


def purge_path(
    path: str, *, soft: bool = False, settings: "settings_in_force.CacheSettings | None" = None
) -> bool:
    """Purge a path with all its queries and variants, and all paths below it.

    Args:
        path: as for `purge`.
        soft: serve stored responses once more, while they are refreshed in the background.
        settings: name the store; by default, that of the request or of the environment.

    Returns:
        Whether the purge is confirmed; see `purge`.

    Raises:
        SettingsError: it is no path.
    """
    return purge_groups_now(_path_groups(path, "purge_path()"), soft, settings)


async def apurge_path(
    path: str, *, soft: bool = False, settings: "settings_in_force.CacheSettings | None" = None
) -> bool:
    """Purge a path; see `purge_path`."""
    return await purge_groups(_path_groups(path, "apurge_path()"), soft, settings)


def purge_all(
    *, soft: bool = False, settings: "settings_in_force.CacheSettings | None" = None
) -> bool:
    """Purge every response and every object of the typed cache in the namespace.

    Returns:
        Whether the purge is confirmed; see `purge`.
    """
    return purge_groups_now((NAMESPACE_GROUP,), soft, settings)


async def apurge_all(
    *, soft: bool = False, settings: "settings_in_force.CacheSettings | None" = None
) -> bool:
    """Purge everything; see `purge_all`."""
    return await purge_groups((NAMESPACE_GROUP,), soft, settings)


def purge_groups_now(
    groups: Sequence[str], soft: bool, settings: "settings_in_force.CacheSettings | None"
) -> bool:
    """Purge groups; see `purge`."""
    store = _noting_store(groups, soft, settings)
    if store is None or not groups:
        return store is not None
    half = sync_half(store)
    return _counted(half.soften_now(groups) if soft else None not in half.renew_now(groups), soft)


async def purge_groups(
    groups: Sequence[str], soft: bool, settings: "settings_in_force.CacheSettings | None"
) -> bool:
    """Purge groups; see `apurge`."""
    if not runs_asyncio():
        # Such as trio's event loop, which cannot await the store.
        return purge_groups_now(groups, soft, settings)
    store = _noting_store(groups, soft, settings)
    if store is None or not groups:
        return store is not None
    confirmed = await store.soften(groups) if soft else None not in await store.renew(groups)
    return _counted(confirmed, soft)


def _counted(confirmed: bool, soft: bool) -> bool:
    cause = PurgeCause.SOFT if soft else PurgeCause.HAND
    return PROCESS.count_purge(cause, confirmed=confirmed)


def _noting_store(
    groups: Iterable[str], soft: bool, settings: "settings_in_force.CacheSettings | None"
) -> Store | None:
    """Return the store to purge, None if caching is off; have the request purge again at its end.

    Inside a request it is the store of its middleware, unless settings name another one.
    """
    noted = current_dependencies.get()
    if settings is None and noted is not None:
        store = noted.store
    else:
        chosen = settings_in_force.settings_for(settings)
        if not chosen.use_redis_cache:
            return None
        store = store_for(chosen)
        if settings is None and not reaches_anything(store):
            logger.warning(
                "A purge reaches nothing: no server is named, and this process has no cache of its "
                "own. Set REDIS_URL as the application has it, or pass settings=."
            )
            return None
    if noted is not None and noted.authority is store.authority:
        for group in groups:
            (noted.note_soft_purge if soft else noted.note_purge)(group)
    return store


def reaches_anything(store: Store) -> bool:
    """Return whether a purge of the store may reach a response: another process, or one here."""
    is_empty = isinstance(store, MemoryStore) and not store.used_bytes
    return store.shared or settings_in_force.has_middleware() or not is_empty


def _name_groups(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(g for name in names for g in _groups_of(_checked(name, "purge()"), "purge()"))


def _groups_of(name: str, where: str) -> tuple[str, ...]:
    path = named_path(name)
    if path is not None and _PLACEHOLDER.search(path):
        # It may also be a value that a client sent, whose purge must not fail.
        logger.warning("%s got %r; it takes a path with values for its parameters.", where, name)
    noted = current_dependencies.get()
    return named_groups(name, mounted_at="" if noted is None else noted.mounted_at)


def _tag_groups(tags: Iterable[str], where: str) -> tuple[str, ...]:
    return tuple(tag_group(_checked(one, where)) for one in tags)


def _path_groups(path: str, where: str) -> tuple[str, ...]:
    if named_path(_checked(path, where)) is None:
        raise SettingsError(f"{where} got {path!r}; it takes a path, which begins with /.")
    return _groups_of(path, where)


def _checked(name: object, where: str) -> str:
    if not isinstance(name, str) or not name:
        raise SettingsError(f"{where} got {name!r}; it takes strings that are not empty.")
    return name
