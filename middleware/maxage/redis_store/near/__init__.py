"""Copies of stored responses in this process, and the connections that end them."""
