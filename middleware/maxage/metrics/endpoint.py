"""The endpoint that Prometheus scrapes."""

from typing import Final, final

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.datastructures import Headers
from starlette.responses import Response

from maxage.asgi.types import Receive, Scope, Send
from maxage.metrics.registration import exported, register
from maxage.routing.route_policy import uncached


def exposition(accept: str | None = None, registry: CollectorRegistry = REGISTRY) -> Response:
    """Return the response to a scrape, which is never cached.

    Args:
        accept: the Accept field of the request; it chooses the text format.
        registry: the metrics; in multiprocess mode those of all workers are added up instead.
    """
    encode, content_type = choose_encoder(accept or "")
    text = encode(exported(registry))
    headers = {"content-type": content_type, "cache-control": "no-store", "vary": "accept"}
    return Response(text, headers=headers)


@final
class MetricsApp:
    """An ASGI application that answers every request with the metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry: Final = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        accept = Headers(scope=scope).get("accept")
        await exposition(accept, self._registry)(scope, receive, send)


def metrics_app(registry: CollectorRegistry = REGISTRY) -> MetricsApp:
    """Return an ASGI application that exports the metrics, and begin to measure.

    Mount it, or give it to a route: `app.add_route("/metrics", metrics_app(), methods=["GET"])`. It
    has no check of its own: each client that reaches it learns the routes and their traffic.

    Args:
        registry: what it exports besides; by default that of all other metrics of the process.
    """
    register(registry)
    return uncached(MetricsApp(registry))
