"""Metrics route: what Prometheus scrapes, guarded by checks of the application."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response, params

from maxage.routing.route_policy import uncached


def metrics_router(*, dependencies: Sequence[params.Depends] = ()) -> APIRouter:
    """Return a router with `GET /metrics`, which is never cached; it needs the extra `metrics`.

    Args:
        dependencies: your own checks, such as `[Depends(require_scraper)]`; without one, each
            client learns the routes and their traffic.

    Raises:
        ModuleNotFoundError: prometheus-client is not installed.
    """
    from maxage.metrics import exposition, register  # noqa: PLC0415 - only with the extra

    register()
    router = APIRouter(dependencies=list(dependencies))

    @router.get("/metrics", include_in_schema=False)
    @uncached
    async def metrics(request: Request) -> Response:
        """Return the metrics in the format that Prometheus asks for."""
        return exposition(request.headers.get("accept"))

    return router
