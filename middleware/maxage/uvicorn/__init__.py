"""The fast lane: a protocol class for uvicorn that answers plain hits before a scope exists."""

from maxage.uvicorn.fast_lane import FastLaneProtocol

__all__ = ["FastLaneProtocol"]
