"""The public names: what users import, and what a newer version may not take away."""

import importlib

import pytest

PUBLIC = {
    "maxage": """
        CacheMiddleware CacheSettings Counters MaxageError MemoryStore RedisStore Rule
        SettingsError Store StoreUnavailableError __version__ apurge apurge_all
        apurge_path apurge_tags cached counters invalidates invalidates_only purge
        purge_all purge_path purge_tags store_from_url tag uncached
    """,
    "maxage.redis": """
        AsyncRedis Redis RedisCache get_async_redis get_redis
    """,
    "maxage.fastapi": """
        CacheHealth CacheState Health Purge Purged admin_router document_cache
        health_router metrics_router purge_router
    """,
    "maxage.testing": """
        CacheClock RouteMap assert_does_not_invalidate assert_hit assert_invalidates
        assert_lint_clean assert_miss audit route_map
    """,
    "maxage.uvicorn": """
        FastLaneProtocol
    """,
    "maxage.metrics": """
        MetricsApp exposition metrics_app register
    """,
    "maxage.otel": """
        instrument uninstrument
    """,
    "maxage.sqlalchemy": """
        instrument
    """,
    "maxage.explain": """
        Explanation GroupState Part Prospect RouteShown StoredShown aexplain explain
    """,
    "maxage.lint": """
        Code Finding lint text_of
    """,
    "maxage.audit": """
        Auditor Finding Report audit audit_process begin end
    """,
    "maxage.shadow": """
        Difference RouteComparison ShadowReport report shadowed
    """,
}


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_these(package: str) -> None:
    """A name that appears or goes is a decision, with a line in the changelog."""
    assert sorted(importlib.import_module(package).__all__) == sorted(PUBLIC[package].split())


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_there(package: str) -> None:
    """`from maxage import *` works, and so does what a newer module hands on."""
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
