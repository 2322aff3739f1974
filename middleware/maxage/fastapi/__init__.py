"""For FastAPI applications: routers (page, health, metrics, a guarded purge), and their schema."""

from maxage.fastapi.admin.router import admin_router
from maxage.fastapi.cache_health import CacheHealth, CacheState
from maxage.fastapi.health import Health, health_router
from maxage.fastapi.metrics import metrics_router
from maxage.fastapi.openapi import document_cache
from maxage.fastapi.purge import Purge, Purged, purge_router

__all__ = [
    "CacheHealth",
    "CacheState",
    "Health",
    "Purge",
    "Purged",
    "admin_router",
    "document_cache",
    "health_router",
    "metrics_router",
    "purge_router",
]
