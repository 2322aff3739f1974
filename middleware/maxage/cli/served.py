"""The application of `maxage serve`, in each of its workers."""

import os
from typing import Any

from maxage.cli.load import load
from maxage.middleware import CacheMiddleware


def application() -> Any:
    """Return the named application behind a cache: its own, or a new one."""
    app = load(os.environ["CACHE_SERVED_APPLICATION"])
    return app if has_cache(app) else CacheMiddleware(app)


def has_cache(app: Any) -> bool:
    """Return whether an application has a CacheMiddleware."""
    while app is not None:
        added = getattr(app, "user_middleware", ())
        if isinstance(app, CacheMiddleware) or any(one.cls is CacheMiddleware for one in added):
            return True
        app = getattr(app, "app", None)
    return False
