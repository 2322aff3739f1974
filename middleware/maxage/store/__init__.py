"""What the cache asks of a store, and the embedded store."""
