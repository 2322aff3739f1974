"""Simulations: which requests of a log the cache would have answered."""
