"""Whatever a line holds, it tells of a request that can be played, or says what it lacks."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxage.simulate.json_line import HOST, QUERY, SECONDS, SIZE, STATUS, TARGET, TIME, parse_json
from maxage.simulate.logged import LoggedRequest, MalformedLineError
from maxage.simulate.simulation import Simulation
from maxage.simulate.text_line import parse_text

PIECES = st.sampled_from([
    "192.0.2.7 - - ", "[21/Sep/2026:14:13:20 +0000]", "[01/Jan/0001:00:00:00 +2359]", ' "GET /',
    "items/%zz", "?a=%", " HTTP/1.1", '" 200 5', '" 999 -', "\\x00", "\\", '"', " ", "\ud800", "*",
    "9" * 400, "[", "inf", "é", "PUT //", "/" * 40,
])  # fmt: skip
NUMBERS = st.sampled_from(["inf", "nan", "-1", "1e400", 10**400, -1, 0, 1e300, 200, "200", True])
VALUES = NUMBERS | st.text(max_size=8) | st.none() | st.lists(st.integers(), max_size=2)
NAMES = st.sampled_from([*TIME, *TARGET, *QUERY, *STATUS, *SIZE, *SECONDS, *HOST, "headers"])
KNOWN = {"ts": 1_790_000_000, "method": "GET", "uri": "/items", "status": 200}


def played(parse: Callable[[str], LoggedRequest], line: str) -> None:
    """Read the line, and play its request."""
    try:
        logged = parse(line)
    except MalformedLineError:
        return
    simulation = Simulation(lifetimes=[60.0], sizes=[1000])
    simulation.run([logged])
    json.dumps(simulation.outcome().as_dict())


@given(st.lists(PIECES, max_size=8).map("".join))
def test_lines_of_text(line: str) -> None:
    """Pieces of the combined format in any order."""
    played(parse_text, line)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_lines_of_json(fields: dict[str, object]) -> None:
    """Values of any type under the names that are known."""
    played(parse_json, json.dumps(KNOWN | fields))


@pytest.mark.parametrize("value", ["inf", "1e400", 10**400, "nan"])
@pytest.mark.parametrize("name", ["ts", "size", "duration"])
def test_a_number_without_bounds_is_none(name: str, value: object) -> None:
    """It makes neither a time nor a size."""
    played(parse_json, json.dumps(KNOWN | {name: value}))


@pytest.mark.parametrize("name", ["ts", "status", "size"])
def test_a_number_of_many_digits_is_no_trap(name: str) -> None:
    """Python refuses to write such a number."""
    played(parse_json, json.dumps(KNOWN | {name: "#"}).replace('"#"', "9" * 5000))


@pytest.mark.parametrize("end", ["5 {}", "5 {}.5", "{}"])
@pytest.mark.parametrize("digits", [400, 5000])
def test_a_line_of_text_may_end_in_a_number_of_many_digits(end: str, digits: int) -> None:
    """It is no duration and no size."""
    line = '192.0.2.7 - - [21/Sep/2026:14:13:20 +0000] "GET / HTTP/1.1" 200 '
    logged = parse_text(line + end.format("9" * digits))
    assert logged.seconds is None
    assert logged.size == (5 if end.startswith("5") else 0)
    played(lambda _: logged, line)
