"""What the tests stand on: real servers, a fault proxy, workers, raw HTTP, hand-driven ASGI."""
