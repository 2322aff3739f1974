"""Lines of JSON: one object for each request, under the names that servers and proxies use."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from maxage.rfc9111.message import HeaderList
from maxage.simulate.logged import (
    LoggedRequest,
    MalformedLineError,
    checked_method,
    checked_status,
    checked_target,
    clf_seconds,
    finite_number,
    request_line,
)

TIME: Final = (
    "time", "ts", "timestamp", "@timestamp", "time_iso8601", "time_local", "startutc", "msec",
    "datetime", "date",
)  # fmt: skip
METHOD: Final = ("method", "request_method", "requestmethod", "http_method", "verb")
TARGET: Final = ("uri", "request_uri", "requestpath", "url", "path", "target", "request_path")
QUERY: Final = ("query", "query_string", "args")
STATUS: Final = ("status", "status_code", "downstreamstatus", "response_status", "code")
SIZE: Final = (
    "size", "bytes", "body_bytes_sent", "bytes_sent", "downstreamcontentsize", "response_size",
    "response_length", "content_length", "length",
)  # fmt: skip
SECONDS: Final = (
    "duration", "request_time", "response_time", "elapsed", "latency", "upstream_response_time",
)  # fmt: skip
HOST: Final = ("host", "http_host", "requesthost", "vhost", "server_name")
USER: Final = ("remote_user", "user", "user_id", "clientusername")
_UNITS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_LENGTH: Final = re.compile(r"([\d.]+)\s*(s|ms|us|µs|ns)?")
_LARGEST_SECONDS: Final = 1e11
"""A larger number is a time in milliseconds; a thousand times as large, in microseconds."""

Fields = Mapping[str, Any]


def parse_json(line: str) -> LoggedRequest:
    """Return the request of a line.

    Raises:
        MalformedLineError: the line holds none.
    """
    fields = _fields(line)
    asked = fields.get("request")
    if isinstance(asked, str) and not _first(fields, METHOD):
        method, target = request_line(asked)
    else:
        method = checked_method(str(_first(fields, METHOD) or ""))
        target = checked_target(str(_first(fields, TARGET) or ""))
    query = str(_first(fields, QUERY) or "").removeprefix("?")
    if query not in ("", "-") and "?" not in target:
        target += f"?{query}"
    return LoggedRequest(
        time=_time(_first(fields, TIME)),
        method=method,
        target=target,
        status=checked_status(_first(fields, STATUS)),
        size=max(0, int(finite_number(_first(fields, SIZE)) or 0)),
        seconds=_duration(fields),
        host=str(_first(fields, HOST) or ""),
        has_user=_first(fields, USER) not in (None, "", "-", {}),
        request_headers=_headers(fields.get("headers") or fields.get("request_headers")),
        response_headers=_response_headers(fields),
    )


def _fields(line: str) -> Fields:
    """Return the fields in lower case; those of Caddy's `request` count as fields of the line."""
    try:
        found = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise MalformedLineError("no JSON object") from None
    outer = {name.lower(): value for name, value in found.items()}
    inner = _object(outer.get("request"))
    return {name.lower(): value for name, value in inner.items()} | outer


def _object(value: Any) -> Fields:
    """Return the fields of an object; none of another value."""
    try:
        return msgspec.convert(value, dict[str, Any])
    except msgspec.ValidationError:
        return {}


def _first(fields: Fields, names: Iterable[str]) -> Any:
    """Return the value of the first name that is there."""
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def _time(value: Any) -> float:
    number = finite_number(value)
    if number is not None:
        while number > _LARGEST_SECONDS:
            number /= 1000
        return number
    if isinstance(value, str):
        if "/" in value:
            return clf_seconds(value.strip("[]"))
        try:
            # Python 3.11 takes at most nine digits, and no other separator than T and a blank.
            return datetime.fromisoformat(value.strip()).timestamp()
        except (ValueError, OverflowError):
            pass
    raise MalformedLineError("no time")


def _duration(fields: Fields) -> float | None:
    """Return seconds; a name may end in their unit, as in `latency_ms`."""
    for name in SECONDS:
        for unit, factor in _UNITS.items():
            number = finite_number(fields.get(f"{name}_{unit}"))
            if number is not None:
                return number * factor
        value = fields.get(name)
        if value is None:
            continue
        number = finite_number(value)
        if number is not None:
            # Traefik counts nanoseconds.
            return number * (1e-9 if "downstreamstatus" in fields else 1.0)
        found = _LENGTH.fullmatch(str(value).strip())
        if found is not None:
            return float(found[1]) * _UNITS[found[2] or "s"]
    return None


def _response_headers(fields: Fields) -> HeaderList:
    known = _headers(fields.get("resp_headers") or fields.get("response_headers"))
    said = fields.get("cache_control") or fields.get("sent_http_cache_control")
    if known or not isinstance(said, str) or said in ("", "-"):
        return known
    return ((b"cache-control", said.encode("latin-1", "replace")),)


def _headers(value: Any) -> HeaderList:
    """Return header lines of an object; a value may be a list."""
    lines: list[tuple[bytes, bytes]] = []
    for name, said in _object(value).items():
        values: list[Any] = msgspec.convert(said, list[Any]) if isinstance(said, list) else [said]
        lines += [(_bytes(name.lower()), _bytes(str(one))) for one in values]
    return tuple(lines)


def _bytes(text: str) -> bytes:
    return text.encode("latin-1", "replace")
