"""Groups and purges: which response a write makes stale."""
