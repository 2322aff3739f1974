"""What goes into the typed cache comes out of it, or is not stored at all."""

import json
import logging
import subprocess
import sys
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, auto
from functools import cached_property
from math import copysign, inf, nan
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    PrivateAttr,
    RootModel,
    SecretStr,
    SerializeAsAny,
    WrapSerializer,
    computed_field,
    field_serializer,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from maxage import CacheSettings
from maxage.redis import RedisCache
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

T = TypeVar("T")


@pytest.fixture
def settings() -> CacheSettings:
    """An embedded store of its own: its size tells it from those of other tests."""
    return CacheSettings(redis_url=None, cache_memory_bytes=4_000_000 + free_port())


class Aliased(BaseModel):
    stock: int = Field(0, alias="stockLevel")


class TwoAliases(BaseModel):
    stock: int = Field(0, validation_alias="in", serialization_alias="out")


class Choices(BaseModel):
    stock: int = Field(0, validation_alias=AliasChoices("a", "b"))
    deep: int = Field(0, validation_alias=AliasPath("c", 1))


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    stock_level: int = 0
    inner: Aliased = Aliased()


class StrictAliases(BaseModel):
    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)
    stock: int = Field(0, alias="stockLevel")


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: int


class AliasedExtra(BaseModel):
    model_config = ConfigDict(extra="allow")
    stock: int = Field(0, alias="stockLevel")


class Private(BaseModel):
    id: int
    _note: str = PrivateAttr("")


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2

    @cached_property
    def expensive(self) -> int:
        return self.side + 1


class WithJson(BaseModel):
    items: Json[list[int]]


class UnvalidatedDefault(BaseModel):
    price: float = 0


class Rounded(BaseModel):
    price: float

    @field_serializer("price")
    def rounded(self, price: float) -> float:
        return round(price, 1)


class Floats(BaseModel):
    x: float


class Bytes(BaseModel):
    data: bytes


class Base64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


class Animal(BaseModel):
    name: str


class Dog(Animal):
    barks: bool = True


class Zoo(BaseModel):
    one: Animal


class AnyZoo(BaseModel):
    one: SerializeAsAny[Animal]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Fish(BaseModel):
    kind: Literal["fish"] = "fish"
    lives: int = 1


class Tank(BaseModel):
    pet: Cat | Fish = Field(discriminator="kind")


class Ambiguous(BaseModel):
    value: int | str | datetime


class Loose(BaseModel):
    a: int = 0


class Looser(BaseModel):
    a: int = 0
    b: int = 0


class Either(BaseModel):
    value: Loose | Looser


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    tags: frozenset[str]
    pairs: dict[tuple[int, int], str] = {}


class Lax(BaseModel):
    """Equal to all of its kind."""

    id: int
    _note: int = PrivateAttr(0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lax)

    __hash__ = None  # type: ignore[assignment]


class Hidden(BaseModel):
    id: int
    password: str = Field("none", exclude=True)


class Account(BaseModel):
    token: SecretStr
    stock: int = Field(0, alias="stockLevel")


class Page(BaseModel, Generic[T]):
    items: list[T]


class Colour(Enum):
    RED = "red"
    BLUE = 2


class Rights(Flag):
    READ = auto()
    WRITE = auto()


class Spot(NamedTuple):
    x: int
    when: datetime


class Movie(TypedDict, total=False):
    title: str
    year: Annotated[int, Field(alias="yearMade")]


@dataclass
class Plain:
    x: int
    seen: set[int] = field(default_factory=set)


@dataclass(slots=True, frozen=True)
class Slotted:
    x: int
    y: Decimal


@dataclass
class NotInit:
    x: int
    y: int = field(init=False, default=0)


@pydantic_dataclass
class Checked:
    x: int = Field(alias="X")


class Hook(RootModel[list[int]]):
    pass


def _private(note: str) -> Private:
    made = Private(id=1)
    made._note = note
    return made


def _computed() -> Computed:
    made = Computed(side=3)
    assert made.expensive == 4
    return made


def _not_init(y: int) -> NotInit:
    made = NotInit(1)
    made.y = y
    return made


def _lax(note: int) -> Lax:
    made = Lax(id=1)
    made._note = note
    return made


def _attribute_of_its_own() -> Plain:
    made = Plain(1)
    made.more = 2  # type: ignore[attr-defined]
    return made


BERLIN = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))


def named(cases: list[Any]) -> list[str]:
    return [f"{number}-{type(case[1]).__name__}" for number, case in enumerate(cases)]


STORED: list[tuple[Any, Any]] = [
    (Aliased, Aliased(stockLevel=7)),
    (list[Aliased], [Aliased(stockLevel=7)]),
    (TwoAliases, TwoAliases.model_validate({"in": 7})),
    (Choices, Choices.model_validate({"b": 7, "c": [0, 8]})),
    (Camel, Camel.model_validate({"stockLevel": 3, "inner": {"stockLevel": 4}})),
    (StrictAliases, StrictAliases(stockLevel=7)),
    (Extra, Extra.model_validate({"id": 1, "more": [1, {"a": None}]})),
    (Private, Private(id=1)),
    (AliasedExtra, AliasedExtra(stockLevel=1, stock=2)),
    (Computed, _computed()),
    (WithJson, WithJson(items="[1, 2]")),
    (UnvalidatedDefault, UnvalidatedDefault()),
    (Rounded, Rounded(price=1.5)),
    (Floats, Floats(x=inf)),
    (Floats, Floats(x=-inf)),
    (Floats, Floats(x=nan)),
    (float, inf),
    (float, -0.0),
    (list[float], [nan, 1.0]),
    (Bytes, Bytes(data=b"text")),
    (Base64, Base64(data=b"\xff\x00")),
    (bytes, b"\xff\x00"),
    (dict[str, bytes], {"a": b"\x80"}),
    (Zoo, Zoo(one=Animal(name="Rex"))),
    (Tank, Tank(pet=Fish())),
    (Ambiguous, Ambiguous(value="5")),
    (Ambiguous, Ambiguous(value=5)),
    (Either, Either(value=Looser(a=1, b=2))),
    (Frozen, Frozen(tags=frozenset({"a", "b"}))),
    (Lax, _lax(0)),
    (Hidden, Hidden(id=1)),
    (Page[Animal], Page[Animal](items=[Animal(name="Rex")])),
    (Colour, Colour.BLUE),
    (dict[Colour, int], {Colour.RED: 1}),
    (Rights, Rights.READ | Rights.WRITE),
    (Spot, Spot(1, datetime(2026, 1, 1, tzinfo=UTC))),
    (Movie, {"title": "M"}),
    (Movie, {"title": "M", "year": 1931}),
    (Plain, Plain(1, {1, 2})),
    (Slotted, Slotted(1, Decimal("1.10"))),
    (NotInit, _not_init(0)),
    (Checked, Checked(X=3)),
    (Hook, Hook([1, 2])),
    (Decimal, Decimal("1.00")),
    (datetime, BERLIN),
    (datetime, datetime(2026, 7, 1, 12)),  # noqa: DTZ001 - a naive one
    (datetime, datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=-3)))),
    (timedelta, timedelta(days=-1, microseconds=3)),
    (set[int], {1, 2}),
    (deque[int], deque([1, 2])),
    (defaultdict[str, int], defaultdict(int, a=1)),
    (OrderedDict[str, int], OrderedDict(b=1, a=2)),
    (dict[int, str], {1: "a"}),
    (tuple[int, ...], (1, 2)),
    (UUID, UUID(int=5)),
    (Path, Path("a/b")),
    (int | None, None),
    (dict[str, Any], {"a": [1, None, {"b": 1.5}]}),
    (list[Any], []),
]


@pytest.mark.parametrize(("model", "value"), STORED, ids=named(STORED))
def test_a_stored_value_comes_back_as_it_was(
    settings: CacheSettings, model: Any, value: Any
) -> None:
    """It has the same type and the same parts, and is plain JSON."""
    cache: RedisCache[Any] = RedisCache(model, prefix="v", settings=settings)
    assert cache.set(1, value) is True
    read = cache.get_or_set(1, lambda: pytest.fail("it is stored"))
    assert type(read) is type(value)
    assert repr(read) == repr(value) or read == value
    if isinstance(value, float):
        assert copysign(1, read) == copysign(1, value)


class Weird:
    """A type that pydantic does not know."""

    def __init__(self, x: int) -> None:
        self.x = x


Arbitrary = Annotated[
    Any, BeforeValidator(lambda x: x if isinstance(x, Weird) else Weird(0)),
    WrapSerializer(lambda x, _: x.x),
]  # fmt: skip
Growing = Annotated[str, AfterValidator(lambda text: text + "!")]

REFUSED: list[tuple[Any, Any, str]] = [
    (Account, Account(token=SecretStr("s3cret"), stockLevel=7), "Account.token"),
    (Private, _private("lost"), "Private._note"),
    (Rounded, Rounded(price=1.23), "Rounded.price"),
    (Bytes, Bytes(data=b"\xff\x00"), "Bytes"),
    (Zoo, Zoo(one=Dog(name="Rex")), "Zoo.one"),
    (AnyZoo, AnyZoo(one=Dog(name="Rex")), "AnyZoo.one"),
    (Animal, Dog(name="Rex"), "Animal"),
    (list[Animal], [Animal(name="a"), Dog(name="Rex")], "[]"),
    (Lax, _lax(3), "Lax._note"),
    (Hidden, Hidden(id=1, password="hunter2"), "Hidden.password"),
    (Page[Animal], Page(items=[Animal(name="Rex")]), "Page"),
    (Frozen, Frozen(tags=frozenset(), pairs={(1, 2): "a"}), "Frozen.pairs"),
    (NotInit, _not_init(5), "NotInit.y"),
    (Plain, _attribute_of_its_own(), "Plain.more"),
    (UnvalidatedDefault, UnvalidatedDefault.model_construct(price=5), "UnvalidatedDefault.price"),
    (Animal, Animal.model_construct(name=5), "Animal.name"),
    (Animal, Animal.model_construct(), "Animal.name"),
    (int, "5", "int"),
    (int, True, "int"),
    (Animal, {"name": "Rex"}, "Animal"),
    (Animal, None, "Animal"),
    (dict[str, Any], {"a": (1, 2)}, "[]"),
    (dict[str, Any], {"a": Animal(name="Rex")}, "[]"),
    (dict[Any, int], {1: 2}, "dict"),
    (list[object], [object()], "list"),
    (Arbitrary, Weird(5), ".x"),
    (Growing, "a", "str"),
    (datetime, datetime(2026, 10, 25, 2, 30, fold=1), "datetime"),  # noqa: DTZ001 - a naive one
    (str, "\ud800", "str"),
    (Decimal, Decimal("NaN"), "Decimal"),
    (list[float], [1, 2], "[]"),
    (deque[int], deque([1], maxlen=3), "deque[int].maxlen"),
    (defaultdict[str, int], defaultdict(lambda: 5), "default_factory"),
]


@pytest.mark.parametrize(("model", "value", "path"), REFUSED, ids=named(REFUSED))
def test_a_value_that_would_come_back_as_another_is_not_stored(
    settings: CacheSettings, model: Any, value: Any, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`set` says so, one warning names type and field, and no data; it raises nothing."""
    cache: RedisCache[Any] = RedisCache(model, prefix="v", settings=settings)
    with caplog.at_level(logging.WARNING, logger="maxage"):
        assert cache.set(1, value) is False
        assert cache.set(2, value) is False
    assert cache.get(1) is None
    (record,) = caplog.records
    assert path in record.getMessage()
    assert "s3cret" not in caplog.text
    assert "hunter2" not in caplog.text
    assert "Rex" not in caplog.text


async def test_nothing_is_left_under_the_key_of_a_value_that_is_not_stored(
    redis_server: RedisServer, redis_url: str, own_namespace: str
) -> None:
    """An older value is not read as the current one, by any reader."""
    settings = CacheSettings(redis_url=redis_url, cache_read_budget=5, cache_write_budget=5)
    cache = RedisCache[Rounded](Rounded, prefix="r", settings=settings)
    good, bad = Rounded(price=1.5), Rounded(price=1.23)
    assert cache.set_many({1: good, 2: good}) is True
    assert cache.set_many({1: bad, 2: Rounded(price=2.5)}) is False
    assert redis_server.call("EXISTS", "r:1", f"{own_namespace}:s:r:1") == 0
    assert cache.get_many([1, 2]) == {2: Rounded(price=2.5)}
    assert await cache.aset(2, bad) is False
    assert redis_server.call("EXISTS", "r:2", f"{own_namespace}:s:r:2") == 0
    assert cache.set(3, good, ttl=60) is True
    assert cache.set(3, good, ttl=0) is False
    assert redis_server.call("EXISTS", "r:3") == 0


@pytest.mark.parametrize(
    ("model", "value", "shown"),
    [
        (Aliased, Aliased(stockLevel=7), {"stock": 7}),
        (TwoAliases, TwoAliases.model_validate({"in": 7}), {"stock": 7}),
        (Floats, Floats(x=inf), {"x": "Infinity"}),
        (Base64, Base64(data=b"\xff"), {"data": "_w=="}),
        (Movie, {"title": "M", "year": 1931}, {"title": "M", "year": 1931}),
    ],
)
def test_the_value_stays_plain_json(
    redis_server: RedisServer, redis_url: str, model: Any, value: Any, shown: Any
) -> None:
    """`json.loads(redis.get(f"item:{id}"))` goes on working, with the names of the fields."""
    settings = CacheSettings(redis_url=redis_url)
    cache: RedisCache[Any] = RedisCache(model, prefix="item", settings=settings)
    assert cache.set(5, value) is True
    assert json.loads(redis_server.call("GET", "item:5")) == shown


# Another type after a deployment


class Before(BaseModel):
    id: int
    stock: int = 0


def _after(name: str, **fields: Any) -> type[BaseModel]:
    return type(name, (BaseModel,), {"__annotations__": {k: v[0] for k, v in fields.items()}} | {
        k: v[1] for k, v in fields.items()
    })  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"id": (int, ...), "stock": (int, 0), "price": (int, 0)},
        {"id": (int, ...)},
        {"id": (int, ...), "stocks": (int, 0)},
        {"id": (int, ...), "stock": (float, 0)},
        {"id": (int, ...), "stock": (int | None, None)},
    ],
    ids=["added", "removed", "renamed", "retyped", "optional"],
)
def test_a_model_with_other_fields_is_a_miss(
    settings: CacheSettings, fields: dict[str, Any]
) -> None:
    """A deployment's defaults do not stand in for data."""
    after = _after("Before", **{k: (t, Field(d)) for k, (t, d) in fields.items()})
    old = RedisCache[Before](Before, prefix="v", settings=settings)
    new: RedisCache[Any] = RedisCache(after, prefix="v", settings=settings)
    assert old.set(1, Before(id=1, stock=7)) is True
    assert new.get(1) is None
    assert new.set(1, after(id=1)) is True
    assert old.get(1) is None


def test_a_field_renamed_under_its_alias_is_a_miss(settings: CacheSettings) -> None:
    """The alias is the same, the name in the JSON is not."""

    class New(BaseModel):
        amount: int = Field(0, alias="stockLevel")

    RedisCache[Aliased](Aliased, prefix="v", settings=settings).set(1, Aliased(stockLevel=7))
    assert RedisCache[New](New, prefix="v", settings=settings).get(1) is None


def test_a_value_of_an_earlier_release_is_a_miss(
    redis_server: RedisServer, redis_url: str, own_namespace: str
) -> None:
    """Its seal says nothing of its type."""
    settings = CacheSettings(redis_url=redis_url)
    cache = RedisCache[Before](Before, prefix="v", settings=settings)
    cache.set(1, Before(id=1))
    key = f"{own_namespace}:s:v:1"
    seal: bytes = redis_server.call("GET", key)
    from hashlib import blake2b

    old = blake2b(redis_server.call("GET", "v:1"), digest_size=16).hexdigest().encode()
    redis_server.call("SET", key, b" ".join([old, *seal.split(b" ")[1:]]))
    assert cache.get(1) is None


FINGERPRINT = """
from enum import Enum
from typing import Annotated, Any, Callable, Literal
from pydantic import AfterValidator, BaseModel, Field
from maxage.typed.encoding import Encodings

class Colour(Enum):
    RED = "red"

class Model(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    tags: set[str] = {"a", "b", "c", "d"}
    kind: Literal["x", "y"] = "x"
    colour: Colour = Colour.RED
    text: Annotated[str, AfterValidator(lambda text: text)] = ""
    call: Callable[[int], int] | None = None
    other: object = object()

for model in (Model, list[Model], Annotated[str, AfterValidator(lambda text: text)]):
    print(Encodings(model).kinds)
"""


def test_processes_agree_on_what_a_type_is() -> None:
    """Neither the order of sets nor the addresses of functions make a difference."""
    told: set[str] = set()
    for seed in ("1", "2", "3"):
        env = {"PYTHONHASHSEED": seed, "PYTHONPATH": "middleware:.", "PATH": "/usr/bin"}
        command = [sys.executable, "-W", "error", "-c", FINGERPRINT]
        told.add(subprocess.run(command, env=env, capture_output=True, check=True).stdout.decode())
    assert len(told) == 1
    assert len(set(told.pop().split())) > 10


# What get_or_set gives


def test_get_or_set_gives_the_same_type_whether_it_loads_or_finds(settings: CacheSettings) -> None:
    """What pydantic accepts for the type becomes that type at once."""
    cache = RedisCache[Animal](Animal, prefix="v", settings=settings)
    load: Any = lambda: {"name": "Rex"}  # noqa: E731
    first, second = cache.get_or_set(1, load), cache.get_or_set(1, lambda: pytest.fail("stored"))
    assert first == second == Animal(name="Rex")
    assert type(first) is type(second) is Animal
    off = CacheSettings(use_redis_cache=False)
    without = RedisCache[Animal](Animal, prefix="v", settings=off)
    assert without.get_or_set(1, load) == Animal(name="Rex")
    numbers = RedisCache[int](int, prefix="n", settings=settings)
    text: Any = lambda: "5"  # noqa: E731
    assert numbers.get_or_set(1, text) == 5
    assert numbers.get(1) == 5


@pytest.mark.parametrize(("model", "value", "path"), REFUSED, ids=named(REFUSED))
async def test_get_or_set_raises_nothing_but_what_load_raises(
    settings: CacheSettings, model: Any, value: Any, path: str
) -> None:
    """A value that is not stored is given all the same, each time."""
    cache: RedisCache[Any] = RedisCache(model, prefix="v", settings=settings)
    loads: list[int] = []

    def load() -> Any:
        loads.append(1)
        return value

    first, second = cache.get_or_set(1, load), await cache.aget_or_set(1, load)
    assert type(first) is type(second)
    with pytest.raises(LookupError):
        cache.get_or_set(2, lambda: {}["missing"])


def test_none_is_kept_where_the_type_allows_it(
    settings: CacheSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """A stored None is a hit; where None is no value it is not stored, and no warning says so."""
    loads: list[int] = []

    def load() -> None:
        loads.append(1)

    some: RedisCache[Any] = RedisCache(Animal | None, prefix="some", settings=settings)  # type: ignore[arg-type]
    assert [some.get_or_set(1, load) for _ in range(3)] == [None] * 3
    assert loads == [1]
    assert some.get_many([1, 2]) == {1: None}
    none: RedisCache[Any] = RedisCache(Animal, prefix="none", settings=settings)
    assert [none.get_or_set(1, load) for _ in range(2)] == [None] * 2
    assert loads == [1] * 3
    assert caplog.records == []
