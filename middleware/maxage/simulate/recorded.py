"""Requests that workers recorded, as those of a log."""

from collections.abc import Iterator, Sequence
from typing import Final

from maxage.insight.requests import RecordedRequest
from maxage.simulate.logged import LoggedRequest

_NOT_MODIFIED: Final = 304
_OK: Final = 200


def logged(requests: Sequence[RecordedRequest]) -> Iterator[LoggedRequest]:
    """Yield the requests, in their order.

    A request that the cache answered, or validated, has the answer of the application to the last
    request for its URL; where none is before it, of the first one after it.
    """
    answers: dict[tuple[str, str, str], RecordedRequest] = {}
    for one in reversed(requests):
        if _is_answered(one):
            answers[one.method, one.host, one.target] = one
    for one in requests:
        url = one.method, one.host, one.target
        if _is_answered(one):
            answers[url] = one
        yield _logged(one, answers.get(url, one))


def _is_answered(one: RecordedRequest) -> bool:
    return one.status not in {0, _NOT_MODIFIED}


def _logged(one: RecordedRequest, answer: RecordedRequest) -> LoggedRequest:
    return LoggedRequest(
        time=one.time,
        method=one.method,
        target=one.target,
        status=answer.status if _is_answered(answer) else _OK,
        size=answer.size,
        seconds=answer.seconds if answer.status else None,
        host=one.host,
        has_user=one.has_user,
        response_headers=answer.said,
    )
