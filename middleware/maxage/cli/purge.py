"""`maxage purge`: purge paths, tags or everything."""

import sys
from typing import Annotated, Final, NamedTuple

import typer

from maxage.cache.key import entry_prefix
from maxage.cli.output import AsJson, complain, print_json, print_text, waiting
from maxage.cli.server import Namespace, OfApplication, RedisUrl, settings_for
from maxage.cli.usage import UsageError
from maxage.explain.stored import shelf_of, stored_in
from maxage.insight.units import counted
from maxage.invalidation.group_names import named_groups
from maxage.invalidation.purge import purge as purge_now
from maxage.invalidation.purge import purge_all
from maxage.redis_store.observer import Observer
from maxage.settings import CacheSettings
from maxage.store.tokens import NAMESPACE_GROUP

_MOST_SHOWN: Final = 20
"""Keys that a dry run prints."""
_PATIENCE: Final = 5.0
"""Seconds for a purge: a command may wait longer than a request."""


def purge(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="A path, which begins with /, a URL, or else a tag."
        ),
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--everything", help="Purge the whole namespace; asks before.")
    ] = False,
    soft: Annotated[
        bool, typer.Option("--soft", help="Serve each response once more while it is refreshed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count the responses that would be purged.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    redis_url: RedisUrl = None,
    namespace: Namespace = None,
    app: OfApplication = None,
    as_json: AsJson = False,
) -> int:
    """Purge paths with all beneath them, tags, or everything.

    Exit code 1: the server did not confirm it.
    """
    names = names or []
    _check(names, everything=everything)
    wanted = _Wanted(settings_for(redis_url, namespace, app), names, everything, soft)
    if dry_run:
        return _count(wanted, as_json=as_json)
    if everything and not yes and not _agreed(wanted.what):
        return 1
    return _purge(wanted, as_json=as_json)


class _Wanted(NamedTuple):
    """A purge that was asked for."""

    settings: CacheSettings
    names: list[str]
    everything: bool
    soft: bool

    @property
    def what(self) -> str:
        """What is purged, in words."""
        named = f"everything in namespace {self.settings.cache_namespace}"
        return named if self.everything else ", ".join(self.names)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that are purged."""
        if self.everything:
            return (NAMESPACE_GROUP,)
        return tuple(group for name in self.names for group in named_groups(name))


def _purge(wanted: _Wanted, *, as_json: bool) -> int:
    Observer(wanted.settings).ping()
    patient = wanted.settings.model_copy(update={"cache_write_budget": _PATIENCE})
    if wanted.everything:
        confirmed = purge_all(soft=wanted.soft, settings=patient)
    else:
        confirmed = purge_now(*wanted.names, soft=wanted.soft, settings=patient)
    if as_json:
        print_json({"purged": wanted.what, "soft": wanted.soft, "confirmed": confirmed})
    elif confirmed:
        print_text(f"Purged {wanted.what}{' softly' if wanted.soft else ''}.")
    else:
        complain("the server did not confirm the purge: repeat it; maxage doctor tells why.")
    return int(not confirmed)


def _check(names: list[str], *, everything: bool) -> None:
    if everything and names:
        raise UsageError("give either names or --everything.")
    if not everything and not any(names):
        raise UsageError("name paths or tags to purge, or give --everything.")
    if not all(names):
        raise UsageError("an empty name stands for nothing; name a path or a tag.")


def _agreed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("purging everything asks first, and stdin is no terminal: give --yes.")
    return typer.confirm(f"Purge {what}?", err=True)


def _count(wanted: _Wanted, *, as_json: bool) -> int:
    settings = wanted.settings
    with waiting("Looking through the stored responses ..."):
        keys = sorted(stored_in(shelf_of(settings), settings, wanted.groups))
    if as_json:
        print_json(
            {
                "would_purge": wanted.what,
                "groups": wanted.groups,
                "responses": len(keys),
                "keys": keys,
            }
        )
        return 0
    print_text(f"Would purge {wanted.what}: {counted(len(keys), 'stored response')}.")
    for key in keys[:_MOST_SHOWN]:
        print_text(f"  {key.removeprefix(entry_prefix(settings.cache_namespace).decode())}")
    if len(keys) > _MOST_SHOWN:
        print_text(f"  ... and {len(keys) - _MOST_SHOWN} more")
    return 0
