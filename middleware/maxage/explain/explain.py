"""Explain one request to an application: it is never called, and the store is only looked at."""

import asyncio
from dataclasses import replace
from typing import Any

from maxage.asgi.overrides import overrides_method
from maxage.explain.advice import changes_for, sentence_for
from maxage.explain.explanation import Explanation
from maxage.explain.reading import explain_read, request_line
from maxage.explain.request import HeaderInput, scope_of_request
from maxage.explain.writing import explain_write
from maxage.rfc9111.unsafe_methods import is_unsafe
from maxage.route_map import middleware_of


def explain(app: Any, request: str, headers: HeaderInput = ()) -> Explanation:
    """Explain a request where no event loop runs; see `aexplain`."""
    return asyncio.run(aexplain(app, request, headers))


async def aexplain(app: Any, request: str, headers: HeaderInput = ()) -> Explanation:
    """Return why a request would be a hit, a miss or a bypass, or the groups that it would purge.

    The code that answers requests is asked, on a store that can only be read: no token is created
    and nothing counted. No handler runs, but the route's `vary_by` does, as at every hit. Layers
    around the cache do not run: a session or user that they would add is not seen.

    Args:
        app: the application, with its CacheMiddleware if it has one.
        request: such as `GET /items?limit=5`; a path alone is a GET. Scheme and host belong to the
            key: a whole URL names them.
        headers: of the request.

    Raises:
        SettingsError: it is no request, or a setting of the application's cache is invalid.
    """
    middleware, holder = middleware_of(app)
    if middleware.mistake is not None:
        raise middleware.mistake
    # An application puts its own root path into the scope that the cache within it sees.
    root_path = str(getattr(holder, "root_path", "") or "")
    scope = scope_of_request(request, headers, root_path=root_path, app=holder or app)
    service, fast_path = middleware.service, middleware.fast_path
    method = scope["method"]
    if fast_path is not None and (is_unsafe(method) or overrides_method(scope)):
        return explain_write(service, scope)
    reads = method in {"GET", "HEAD"} or (method == "QUERY" and service.settings.cache_store_query)
    if fast_path is not None and reads:
        return await explain_read(service, fast_path.cache.store, scope)
    reason = "off" if fast_path is None else "safe"
    known = Explanation(
        request=request_line(scope), outcome="bypass", reason=reason, because="", route=None
    )
    return replace(
        known,
        because=sentence_for(reason, known),
        changes=changes_for(known, service.settings, scope),
    )
