"""The server of a command: named by options, by the environment, or by an application."""

from typing import Annotated, Any

import typer

from maxage.cli.load import load
from maxage.cli.usage import UsageError
from maxage.redis_url import server_url
from maxage.route_map import middleware_of
from maxage.settings import CacheSettings

RedisUrl = Annotated[
    str | None,
    typer.Option("--redis-url", metavar="URL", help="The server; by default REDIS_URL, or .env."),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help="By default CACHE_NAMESPACE, or maxage."),
]
OfApplication = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:APP", help="Take the settings of this application."),
]


def settings_for(
    redis_url: str | None = None, namespace: str | None = None, app: str | None = None
) -> CacheSettings:
    """Return the settings of a command that needs a server.

    Raises:
        SettingsError: one of them is invalid.
        UsageError: no server is named.
    """
    named = {"redis_url": redis_url, "cache_namespace": namespace}
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if app is None:
        settings = CacheSettings(**given)
    else:
        middleware, _ = middleware_of(load(app))
        if middleware.mistake is not None:
            raise middleware.mistake
        # Checked by the settings' own rules, which a copy does not apply.
        checked = CacheSettings(**given)
        settings = middleware.service.settings.model_copy(
            update={name: getattr(checked, name) for name in given}
        )
    if server_url(settings.redis_url) is None:
        raise UsageError(
            "no server is named, and an embedded store is seen by its own process alone; set "
            "REDIS_URL as the application has it, or give --redis-url."
        )
    return settings
