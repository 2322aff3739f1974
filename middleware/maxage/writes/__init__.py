"""Responders of POST, PUT, PATCH and DELETE."""
