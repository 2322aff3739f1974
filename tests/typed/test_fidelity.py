"""Whatever the typed cache says that it stored is read as it was, for values of many types."""

import enum
import ipaddress
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AnyUrl,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NaiveDatetime,
    RootModel,
    SecretBytes,
    SecretStr,
)
from typing_extensions import TypedDict

from maxage.typed.encoding import Encodings, UnfaithfulEncodingError

T = TypeVar("T")
BERLIN = ZoneInfo("Europe/Berlin")
LONDON = ZoneInfo("Europe/London")
TWICE = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
"""An hour that the clocks of Berlin show twice."""


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias
    BLUE = "1"
    NONE = None


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    ONE = "1"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Leaf(BaseModel):
    model_config = ConfigDict(frozen=True)
    number: float = 0
    at: time | None = None


class Box(BaseModel, Generic[T]):
    content: T
    more: list["Box[T]"] = []


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int | None = None


class Fish(BaseModel):
    kind: Literal["fish"] = "fish"
    lives: float = 1


class Secret(BaseModel):
    token: SecretBytes


@dataclass
class Plain:
    when: datetime
    parts: tuple[int, str] = (0, "")


class Spot(NamedTuple):
    x: Decimal
    label: str | None


class Movie(TypedDict, total=False):
    title: str
    length: timedelta


class Names(RootModel[dict[str, list[int]]]):
    pass


_texts = st.text(st.characters(codec=None), max_size=5) | st.sampled_from(
    ["\ud800", "a\udfff", "\0"]
)
_decimals = st.decimals() | st.builds(
    lambda digits, exponent: Decimal((0, (digits,), exponent)),
    st.integers(0, 9), st.integers(-40, 40),
)  # fmt: skip
_finite = _decimals.filter(Decimal.is_finite)
_zones = st.sampled_from([None, UTC, BERLIN, LONDON]) | st.builds(
    timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23))
)
_datetimes = st.builds(
    lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold),
    st.datetimes() | st.just(TWICE.replace(tzinfo=None)), _zones, st.sampled_from([0, 1]),
)  # fmt: skip
_times = st.builds(
    lambda at, zone, fold: at.replace(tzinfo=zone, fold=fold),
    st.times(), _zones, st.sampled_from([0, 1]),
)  # fmt: skip
_integers = st.integers() | st.integers(-(10**400), 10**400) | st.booleans()
_floats = st.floats()
_leaves = st.builds(Leaf, number=_floats, at=st.none() | _times)
_json = st.recursive(
    st.none() | st.booleans() | _integers | _floats | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)
_pets = st.builds(Cat, lives=st.none() | _integers) | st.builds(Fish, lives=_floats)

CASES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, _integers),
    (bool, st.booleans()),
    (float, _floats | _integers),
    (str, _texts),
    (bytes, st.binary()),
    (Decimal, _decimals),
    (complex, st.complex_numbers()),
    (Fraction, st.fractions()),
    (date, st.dates() | _datetimes),
    (datetime, _datetimes),
    (time, _times),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (AwareDatetime, _datetimes),
    (NaiveDatetime, _datetimes),
    (ipaddress.IPv4Address, st.ip_addresses(v=4)),
    (ipaddress.IPv6Address, st.ip_addresses(v=6)),
    (ipaddress.IPv4Network, st.just(ipaddress.ip_network("10.0.0.0/8"))),
    (ipaddress.IPv4Interface, st.just(ipaddress.ip_interface("10.0.0.1/8"))),
    (Path, st.builds(Path, _texts.filter(lambda text: "\0" not in text))),
    (PurePosixPath, st.builds(PurePosixPath, _texts)),
    (PureWindowsPath, st.builds(PureWindowsPath, _texts)),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Word, st.just(Word.ONE)),
    (int, st.sampled_from(Level)),
    (str, st.just(Word.ONE)),
    (Rights, st.just(Rights(3))),
    (Literal["a", 1], st.sampled_from(["a", 1])),
    (list[Colour], st.lists(st.sampled_from(Colour), max_size=3)),
    (SecretStr, st.builds(SecretStr, _texts)),
    (SecretBytes, st.builds(SecretBytes, st.binary())),
    (Secret, st.builds(Secret, token=st.builds(SecretBytes, st.binary()))),
    (AnyUrl, st.just(AnyUrl("http://é.example:80/a b?c#d"))),
    (Leaf, _leaves),
    (frozenset[Leaf], st.frozensets(_leaves, max_size=3)),
    (set[float], st.sets(_floats, max_size=3)),
    (set[bytes], st.sets(st.binary(), max_size=3)),
    (Box[Leaf], st.builds(Box[Leaf], content=_leaves)),
    (
        Box[Box[Decimal]],
        st.builds(lambda x: Box[Box[Decimal]](content=Box[Decimal](content=x)), _finite),
    ),
    (Box[Any], st.builds(Box[Any], content=_json)),
    (Annotated[Cat | Fish, Field(discriminator="kind")], _pets),
    (Cat | Fish, _pets),
    (Plain, st.builds(Plain, when=_datetimes, parts=st.tuples(_integers, _texts))),
    (Spot, st.builds(Spot, x=_decimals, label=st.none() | _texts)),
    (Movie, st.fixed_dictionaries({}, optional={"title": _texts, "length": st.timedeltas()})),
    (Names, st.builds(Names, st.dictionaries(_texts, st.lists(_integers, max_size=2), max_size=2))),
    (dict[date, time], st.dictionaries(st.dates(), _times, max_size=2)),
    (dict[datetime, int], st.dictionaries(_datetimes, _integers, max_size=2)),
    (dict[float, int], st.dictionaries(_floats, _integers, max_size=3)),
    (dict[int, str], st.dictionaries(_integers, _texts, max_size=3)),
    (dict[bool, bytes], st.dictionaries(st.booleans(), st.binary(), max_size=2)),
    (
        dict[Decimal, None],
        st.dictionaries(_decimals.filter(lambda d: not d.is_snan()), st.none(), max_size=2),
    ),
    (
        dict[tuple[int, str], int],
        st.dictionaries(st.tuples(_integers, _texts), _integers, max_size=2),
    ),
    (dict[int | str, int], st.dictionaries(_integers | _texts, _integers, max_size=3)),
    (tuple[int, ...], st.lists(_integers, max_size=3).map(tuple)),
    (tuple[str, float], st.tuples(_texts, _floats)),
    (list[list[float]], st.lists(st.lists(_floats, max_size=2), max_size=2)),
    (int | str | float | None, _integers | _texts | _floats | st.none()),
    (datetime | date | str, _datetimes | st.dates() | _texts),
    (Any, _json),
    (dict[str, Any], st.dictionaries(_texts, _json, max_size=2)),
]


def shown(value: Any) -> Any:
    """What a value is, with all its parts, as text; JSON has no zone names."""
    kind = type(value)
    if isinstance(value, datetime | time):
        parts: Any = (
            value.replace(tzinfo=None).isoformat(),
            value.utcoffset(),
            value.fold,
            value.tzinfo is None,
        )
    elif isinstance(value, dict):
        # A TypedDict is read in the order of its declaration.
        parts = sorted(repr((shown(key), shown(part))) for key, part in value.items())
    elif isinstance(value, set | frozenset):
        parts = sorted(repr(shown(part)) for part in value)
    elif isinstance(value, list | tuple):
        parts = [shown(part) for part in value]
    elif isinstance(value, SecretStr | SecretBytes):
        parts = value.get_secret_value()
    elif isinstance(value, BaseModel):
        parts = shown(value.__dict__)
    elif is_dataclass(value):
        parts = [shown(getattr(value, field.name)) for field in fields(value)]
    else:
        parts = repr(value)
    return kind, parts


@pytest.mark.parametrize(
    ("model", "values"), CASES, ids=[f"{n}-{m}" for n, (m, _) in enumerate(CASES)]
)
def test_what_is_written_is_read_as_it_was_or_refused(
    model: Any, values: st.SearchStrategy[Any]
) -> None:
    """The same type, equal, and the same in each part."""
    encodings: Encodings[Any] = Encodings(model)

    @given(values)
    def holds(value: Any) -> None:
        try:
            encoded = encodings.encode(value)
        except UnfaithfulEncodingError:
            return
        assert shown(encodings.decode(encoded)) == shown(value)

    holds()
