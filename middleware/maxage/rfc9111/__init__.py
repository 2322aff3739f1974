"""The rules of RFC 9111 and its neighbours as pure functions over frozen values.

Nothing in this package awaits, logs, reads a clock, or knows Redis or ASGI.
"""
