"""Shadow: compare handlers' answers with the responses of the cache (`CACHE_SHADOW`)."""

from maxage.shadow.report import Difference, RouteComparison, ShadowReport
from maxage.shadow.shadow import report, shadowed

__all__ = ["Difference", "RouteComparison", "ShadowReport", "report", "shadowed"]
