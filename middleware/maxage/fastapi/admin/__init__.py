"""The page: what the cache does, why, and purges by hand, for people with a browser."""
