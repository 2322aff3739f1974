"""Routers for FastAPI applications: the health endpoint, and a guarded route that purges."""

from maxage.fastapi.health import Health, health_router
from maxage.fastapi.purge import Purge, Purged, purge_router

__all__ = ["Health", "Purge", "Purged", "health_router", "purge_router"]
