"""Assertions about one response: did the cache answer, or the application?"""

from maxage.testing.told import Answer, told_by


def assert_hit(response: Answer) -> None:
    """Fail unless the cache answered: the application did not run for this request.

    Args:
        response: of httpx, of Starlette's TestClient, or of requests.

    Raises:
        AssertionError: the application answered; the message says why.
    """
    __tracebackhide__ = True
    told = told_by(response)
    if not told.is_hit:
        raise AssertionError(f"{told.name} is no hit.\n{told.why()}")


def assert_miss(response: Answer) -> None:
    """Fail unless the application answered, through the cache.

    Args:
        response: of httpx, of Starlette's TestClient, or of requests.

    Raises:
        AssertionError: the cache answered, or there is none.
    """
    __tracebackhide__ = True
    told = told_by(response)
    if not told.is_miss:
        raise AssertionError(f"{told.name} is no miss.\n{told.why()}")
