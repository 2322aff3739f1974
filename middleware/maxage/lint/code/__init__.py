"""Reads the source of an application's functions; none of them is called."""
