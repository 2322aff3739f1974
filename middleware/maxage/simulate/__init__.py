"""Simulations: which requests of a log the cache would have answered."""

from maxage.simulate.outcome import Cell, Outcome, Proposal, RouteOutcome
from maxage.simulate.reading import LogReader
from maxage.simulate.simulation import LIFETIMES, SIZES, Simulation

__all__ = [
    "LIFETIMES",
    "SIZES",
    "Cell",
    "LogReader",
    "Outcome",
    "Proposal",
    "RouteOutcome",
    "Simulation",
]
