"""The words and counts of what the cache does: for Cache-Status, metrics, traces and pages."""
