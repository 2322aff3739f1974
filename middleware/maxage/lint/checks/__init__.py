"""The checks, each in a file of its own: they take an application and yield findings."""
