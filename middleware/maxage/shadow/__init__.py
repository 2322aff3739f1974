"""Shadow: what the cache would have answered, beside what the handlers do (`CACHE_SHADOW`)."""

from maxage.shadow.report import Difference, RouteComparison, ShadowReport
from maxage.shadow.shadow import report, shadowed

__all__ = ["Difference", "RouteComparison", "ShadowReport", "report", "shadowed"]
