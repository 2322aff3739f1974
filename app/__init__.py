"""MonitorPy API: the reference application of maxage."""
