"""Prometheus metrics (needs the extra `metrics`).

    app.mount("/metrics", metrics_app())

Behind the cache too, `/metrics` is never cached. Where `PROMETHEUS_MULTIPROC_DIR` is set, each
worker answers for all of them.
"""

from importlib.util import find_spec

if find_spec("prometheus_client") is None:
    raise ModuleNotFoundError(
        "maxage.metrics needs prometheus-client: pip install 'maxage[metrics]'.",
        name="prometheus_client",
    )

from maxage.metrics.endpoint import MetricsApp, exposition, metrics_app
from maxage.metrics.registration import register

__all__ = ["MetricsApp", "exposition", "metrics_app", "register"]
