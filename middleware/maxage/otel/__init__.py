"""Traces and metrics through OpenTelemetry (needs the extra `otel`).

    instrument()

Call it once, where the SDK is set up. Lookups and purges become spans of the current trace, and the
metrics of `docs/operations.md` become instruments.
"""

from importlib.util import find_spec

if find_spec("opentelemetry") is None:
    raise ModuleNotFoundError(
        "maxage.otel needs opentelemetry-api: pip install 'maxage[otel]'.", name="opentelemetry"
    )

from maxage.otel.instrumentation import instrument, uninstrument

__all__ = ["instrument", "uninstrument"]
