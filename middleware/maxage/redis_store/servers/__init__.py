"""Connections to Redis servers: one server, a cluster, or what a Sentinel names."""
