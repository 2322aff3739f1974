"""Responders of GET, HEAD and QUERY."""
