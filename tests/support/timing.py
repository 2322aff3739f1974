"""How long something may take, though the machine does other work at the same time."""


class TooSlowError(AssertionError):
    """It took too long: other work may be the cause, so `tests/conftest.py` plays it again."""


def in_time(took: float, seconds: float) -> None:
    """Fail where it took longer than it may."""
    if took > seconds:
        raise TooSlowError(f"it took {took:.3f} s, and may take {seconds:g} s")


def few_slow(slow: int, most: float) -> None:
    """Fail where more of several were slow than may be."""
    if slow > most:
        raise TooSlowError(f"{slow} were slow, and {most:g} may be")
