"""Leases: how the other workers notice that one can no longer purge."""
