"""What maxage adds to a FastAPI application: the health endpoint."""

from maxage.fastapi.health import Health, health_router

__all__ = ["Health", "health_router"]
