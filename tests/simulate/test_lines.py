"""Lines of access logs: what each format tells, and what a line lacks that tells of no request."""

import pytest

from maxage.simulate.json_line import parse_json
from maxage.simulate.logged import LoggedRequest, MalformedLineError
from maxage.simulate.text_line import parse_text

FRONT = "192.0.2.7 - - [21/Sep/2026:14:13:20 +0000]"
AT = 1_790_000_000.0


def asked(**told: object) -> LoggedRequest:
    """A GET of /items at that time, answered with 200."""
    known = {"time": AT, "method": "GET", "target": "/items", "status": 200}
    return LoggedRequest(**(known | told))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f'{FRONT} "GET /items HTTP/1.1" 200 512', {"size": 512}),
        (f'{FRONT} "GET /items HTTP/1.1" 304 -', {"status": 304}),
        (f'{FRONT} "GET /items?a=1&b=%20 HTTP/2.0" 200 5 "-" "curl/8"', {
            "target": "/items?a=1&b=%20", "size": 5,
        }),
        (f'{FRONT} "PUT /items/5 HTTP/1.1" 204 0 "-" "x"', {
            "method": "PUT", "target": "/items/5", "status": 204,
        }),
        ('192.0.2.7 - ann [21/Sep/2026:16:13:20 +0200] "GET /items HTTP/1.1" 200 5', {
            "has_user": True, "size": 5,
        }),
        (f'shop.test:80 {FRONT} "GET http://shop.test/items HTTP/1.1" 200 5', {"size": 5}),
        (f'{FRONT} "GET /items HTTP/1.1" 200 5 "-" "agent \\"x\\"" 0.012', {
            "size": 5, "seconds": 0.012,
        }),
        (f'{FRONT} "GET /items HTTP/1.1" 200 5 "-" "x" rt=1.5', {"size": 5, "seconds": 1.5}),
        (f'{FRONT} "GET /items HTTP/1.1" 200 5 "-" "x" 1500', {"size": 5, "seconds": 0.0015}),
        (f'{FRONT} "GET /it\\x65ms HTTP/1.1" 200 5', {"size": 5}),
    ],
)  # fmt: skip
def test_common_and_combined_lines(line: str, told: dict[str, object]) -> None:
    """Of nginx, Apache and gunicorn, with the time of the answer at the end where there is one."""
    assert parse_text(line) == asked(**told)


@pytest.mark.parametrize(
    ("line", "lack"),
    [
        ("", "not an access log line"),
        ("2026/09/21 14:13:20 [error] 7#7: *1 connect() failed", "not an access log line"),
        (f'{FRONT} "\\x16\\x03\\x01" 400 150', "no method"),
        (f'{FRONT} "-" 408 0', "no method"),
        (f'{FRONT} "GET items HTTP/1.1" 400 0', "no path"),
        (f'{FRONT} "GET /items HTTP/1.1" 2x0 0', "no status"),
        (f'{FRONT} "GET /items HTTP/1.1" 099 0', "no status"),
        ('- - - [31/Foo/2026:14:13:20 +0000] "GET /items HTTP/1.1" 200 0', "no time"),
        ('- - - [31/Feb/2026:14:13:20 +0000] "GET /items HTTP/1.1" 200 0', "no time"),
        ('INFO:     127.0.0.1:5 - "GET /items HTTP/1.1" 200 OK', "no time (uvicorn's own format)"),
    ],
)
def test_a_line_that_tells_of_no_request_says_what_it_lacks(line: str, lack: str) -> None:
    """None of them raises anything else."""
    with pytest.raises(MalformedLineError) as refused:
        parse_text(line)
    assert str(refused.value) == lack


CADDY = (
    '{"level":"info","ts":1790000000.0,"request":{"method":"GET","host":"shop.test","uri":"/items",'
    '"headers":{"Cookie":["a=b"]}},"user_id":"","duration":0.004,"size":9,"status":200,'
    '"resp_headers":{"Cache-Control":["max-age=60"]}}'
)
TRAEFIK = (
    '{"StartUTC":"2026-09-21T14:13:20Z","RequestMethod":"GET","RequestPath":"/items",'
    '"RequestHost":"shop.test","DownstreamStatus":200,"DownstreamContentSize":9,'
    '"Duration":4000000,"ClientUsername":"-"}'
)
NGINX = (
    '{"time_iso8601":"2026-09-21T14:13:20+00:00","request":"GET /items HTTP/1.1","status":"200",'
    '"body_bytes_sent":"9","request_time":"0.004","http_host":"shop.test","remote_user":""}'
)
OWN_NAMES = (
    '{"timestamp":"21/Sep/2026:14:13:20 +0000","method":"GET","url":"http://h/items",'
    '"status_code":200,"latency":"4ms","user":"ann"}'
)
CONTROL = (
    '{"ts":1790000000,"method":"GET","uri":"/items","status":200,"latency_us":4000,'
    '"cache_control":"no-store"}'
)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (CADDY, {
            "host": "shop.test", "size": 9, "seconds": 0.004,
            "request_headers": ((b"cookie", b"a=b"),),
            "response_headers": ((b"cache-control", b"max-age=60"),),
        }),
        (TRAEFIK, {"host": "shop.test", "size": 9, "seconds": 0.004}),
        (NGINX, {"host": "shop.test", "size": 9, "seconds": 0.004}),
        ('{"time":1790000000000,"method":"get","path":"/items","query":"a=1","status":200}', {
            "target": "/items?a=1",
        }),
        (OWN_NAMES, {"seconds": 0.004, "has_user": True}),
        (CONTROL, {
            "seconds": 0.004, "response_headers": ((b"cache-control", b"no-store"),),
        }),
    ],
    ids=["caddy", "traefik", "nginx", "milliseconds", "clf-time", "microseconds"],
)  # fmt: skip
def test_json_lines(line: str, told: dict[str, object]) -> None:
    """Under the names that servers and proxies use, whatever the case."""
    found = parse_json(line)
    assert found.seconds == pytest.approx(told.get("seconds"))
    assert found == asked(**(told | {"seconds": found.seconds}))


@pytest.mark.parametrize(
    ("line", "lack"),
    [
        ("{", "no JSON object"),
        ("[1]", "no JSON object"),
        ('{"ts":1,"status":200}', "no method"),
        ('{"ts":1,"method":"GET","status":200}', "no path"),
        ('{"ts":1,"method":"GET","uri":"/"}', "no status"),
        ('{"method":"GET","uri":"/","status":200}', "no time"),
        ('{"ts":"soon","method":"GET","uri":"/","status":200}', "no time"),
        ('{"ts":true,"method":"GET","uri":"/","status":200}', "no time"),
        ('{"ts":1,"method":"GET","uri":"/","status":"ok"}', "no status"),
    ],
)
def test_a_json_line_that_tells_of_no_request_says_what_it_lacks(line: str, lack: str) -> None:
    """Other values of any type are let alone."""
    with pytest.raises(MalformedLineError) as refused:
        parse_json(line)
    assert str(refused.value) == lack
