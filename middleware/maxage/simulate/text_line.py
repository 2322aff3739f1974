"""Lines of text: the common and the combined log format, of nginx, Apache, gunicorn and others."""

import re
from typing import Final

from maxage.simulate.logged import (
    LoggedRequest,
    MalformedLineError,
    checked_status,
    clf_seconds,
    finite_number,
    request_line,
)

_LINE: Final = re.compile(
    r"(?P<front>.*?)\[(?P<time>[^\]]{20,30})\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\S+) (?P<size>\d+|-)(?P<rest>.*)'
)
_UVICORN: Final = re.compile(r'\S+:\s+\S+ - "[A-Z]+ \S+ HTTP/[\d.]+" \d{3}')
_SECONDS: Final = re.compile(r"(?:^|[ =\"])(\d+(?:\.\d+)?)\"?\s*$")
_ESCAPED: Final = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)")


def parse_text(line: str) -> LoggedRequest:
    """Return the request of a line.

    A number behind the fields of the combined format is how long the answer took: seconds if it
    has a decimal point (nginx), microseconds if not (`%D` of Apache and gunicorn).

    Raises:
        MalformedLineError: the line holds none.
    """
    found = _LINE.match(line)
    if found is None:
        if _UVICORN.match(line):
            raise MalformedLineError("no time (uvicorn's own format)")
        raise MalformedLineError("not an access log line")
    method, target = request_line(_unescaped(found["request"]))
    fields = found["front"].split()
    return LoggedRequest(
        time=clf_seconds(found["time"]),
        method=method,
        target=target,
        status=checked_status(found["status"]),
        size=int(finite_number(found["size"]) or 0),
        seconds=_seconds(found["rest"]),
        has_user=len(fields) >= 3 and fields[2] != "-",
    )


def _seconds(rest: str) -> float | None:
    found = _SECONDS.search(rest)
    text = found[1] if found is not None else ""
    number = finite_number(text)
    return number if number is None or "." in text else number / 1e6


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPED.sub(lambda one: chr(int(one[1][1:], 16)) if len(one[1]) > 1 else one[1], text)
