"""Answerer: the route that has answered, beside the one by which the key was made."""

from enum import Enum


class Answerer(Enum):
    """Whether the foreseen route has answered, as far as the scope tells at the response."""

    FORESEEN = "the route by which the key was made"
    OTHER = "another route: the response fits no key"
    UNKNOWN = "no word in the scope: a layer has passed on a copy of it, or has answered itself"
