"""Insight: the figures of all workers together, and their most asked URLs (`CACHE_INSIGHT`)."""
