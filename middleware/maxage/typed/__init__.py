"""The typed cache."""
