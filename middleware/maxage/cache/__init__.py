"""The cache without ASGI: lookups, storing, collapsing."""
