"""Other spellings of the faults, each beside its neighbour that is none."""

import itertools
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import sqlalchemy
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, field_validator
from sqlalchemy.orm import Session
from starlette.authentication import requires
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from maxage import CacheMiddleware, CacheSettings, cached, invalidates
from maxage.lint import lint
from maxage.lint.checks.models import lost_part
from tests.lint.tables import Item

SEEN: dict[str, int] = {}


class Work:
    """Commits at its end."""

    session: Session

    async def __aenter__(self) -> Session:
        return self.session

    async def __aexit__(self, *error: object) -> None:
        self.session.commit()


class Store:
    def __init__(self) -> None:
        self.items: list[int] = []

    def put(self, item: int) -> None:
        self.items.append(item)

    def find(self, item: int, *, forget: bool = False) -> int:
        if forget:
            self.items.remove(item)
        return item


STORE = Store()


async def unit() -> AsyncGenerator[Session]:
    async with Work() as session:
        yield session


def no_store(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


def by_query(app: FastAPI) -> None:
    @app.get("/a")
    def a(db: Annotated[Session, Depends(Session)]) -> None:
        db.query(Item).filter(Item.id == 1).delete()


def by_filter(app: FastAPI) -> None:
    """As the models of Tortoise and Django do."""

    @app.get("/a")
    async def a() -> None:
        await Item.filter(Item.id == 1).update(name="x")


def by_statement(app: FastAPI) -> None:
    @app.get("/a")
    def a(db: Annotated[Session, Depends(Session)]) -> None:
        statement = sqlalchemy.update(Item).values(name="x")
        db.execute(statement)


def by_method_of_an_object(app: FastAPI) -> None:
    @app.get("/a")
    def a() -> None:
        STORE.put(1)


def get_store() -> Store:
    return STORE


def by_an_object_that_a_dependency_gives(app: FastAPI) -> None:
    @app.get("/a")
    def a(store: Annotated[Store, Depends(get_store)]) -> None:
        store.put(1)


def by_state_of_the_application(app: FastAPI) -> None:
    @app.get("/a")
    def a(request: Request) -> None:
        request.app.state.hits += 1


def by_a_dependency(app: FastAPI) -> None:
    def count() -> None:
        SEEN["a"] = 1

    @app.get("/a", dependencies=[Depends(count)])
    def a() -> None: ...


def permission(app: FastAPI) -> None:
    @app.get("/a")
    @requires("authenticated")
    def a(request: Request) -> None: ...


def all_headers(app: FastAPI) -> None:
    @app.get("/a")
    def a(request: Request) -> dict[str, str]:
        return dict(request.headers)


def invalidates_nothing(app: FastAPI) -> None:
    @app.get("/report")
    @cached(ttl=60)
    def report() -> None: ...

    @app.put("/orders/{order_id}")
    @invalidates("/reprot")
    def order(order_id: int) -> None: ...


def late_manager(app: FastAPI) -> None:
    @app.post("/a", dependencies=[Depends(unit)])
    def a() -> None: ...


def unknown_route(app: FastAPI) -> None:
    class Own(BaseRoute): ...

    app.router.routes.append(Own())


def inner_layers(app: FastAPI) -> None:
    inner = FastAPI()
    inner.add_middleware(CORSMiddleware)
    app.mount("/inner", inner)
    app.add_middleware(CacheMiddleware)


@pytest.mark.parametrize(
    ("code", "routes"),
    [
        ("MX102", permission),
        ("MX103", all_headers),
        ("MX201", by_query),
        ("MX201", by_filter),
        ("MX201", by_statement),
        ("MX201", by_method_of_an_object),
        ("MX201", by_an_object_that_a_dependency_gives),
        ("MX201", by_state_of_the_application),
        ("MX201", by_a_dependency),
        ("MX202", invalidates_nothing),
        ("MX203", late_manager),
        ("MX301", inner_layers),
        ("MX401", unknown_route),
    ],
)
def test_a_fault(code: str, routes: Callable[[FastAPI], None]) -> None:
    app = FastAPI()
    routes(app)
    assert [one.code for one in lint(app)] == [code]


def read_only_call(app: FastAPI) -> None:
    """The branch that writes is not taken: an argument says so."""

    @app.get("/a")
    def a() -> int:
        return STORE.find(1, forget=False)


def fills_once(app: FastAPI) -> None:
    @app.get("/a")
    def a() -> int:
        if "a" not in SEEN:
            SEEN["a"] = 1
        return SEEN["a"]


def form(app: FastAPI) -> None:
    """One function shows a form and takes it."""

    @app.api_route("/a", methods=["GET", "POST"])
    def a() -> None:
        SEEN["a"] = 1


def local_objects(app: FastAPI) -> None:
    @app.get("/a")
    def a() -> list[int]:
        found: list[int] = []
        found.append(len(SEEN))
        return sorted(found)


def forbidden_by_a_dependency(app: FastAPI) -> None:
    @app.get("/now", dependencies=[Depends(no_store)])
    def now(request: Request) -> str:
        return str(request.client)


def makes_the_file_that_it_sends(app: FastAPI) -> None:
    @app.get("/export")
    def export() -> FileResponse:
        Path("export.csv").write_text("1;2")
        return FileResponse("export.csv")


def notes_its_listeners(app: FastAPI) -> None:
    @app.get("/events")
    def events() -> StreamingResponse:
        SEEN["listeners"] = 1
        return StreamingResponse(iter(()), media_type="text/event-stream")


def declares_that_it_streams(app: FastAPI) -> None:
    class Events(StreamingResponse):
        media_type = "text/event-stream"

    @app.get("/orders/live", response_class=Events)
    def live() -> Any:
        yield b"data: 1"


def shared_by_its_answer(app: FastAPI) -> None:
    @app.get("/a", dependencies=[Depends(APIKeyHeader(name="x-key"))])
    def a(response: Response) -> None:
        response.headers["Cache-Control"] = "public, max-age=60"


def text_that_says_private(app: FastAPI) -> None:
    @app.get("/a")
    def a() -> str:
        return "This is private."


def tag_of_a_response(app: FastAPI) -> None:
    @app.get("/report")
    @cached(ttl=60)
    def report() -> None: ...

    @app.put("/orders/{order_id}")
    @invalidates("report")
    def order(order_id: int) -> None: ...


def early_commit(app: FastAPI) -> None:
    @app.post("/a")
    def a(session: Annotated[Session, Depends(unit)]) -> None:
        session.commit()


@pytest.mark.parametrize(
    "routes",
    [
        read_only_call, fills_once, form, local_objects, forbidden_by_a_dependency,
        makes_the_file_that_it_sends, notes_its_listeners, declares_that_it_streams,
        shared_by_its_answer,
        text_that_says_private, tag_of_a_response, early_commit,
    ],
)  # fmt: skip
def test_no_fault(routes: Callable[[FastAPI], None]) -> None:
    app = FastAPI()
    routes(app)
    assert lint(app) == ()


def test_a_text_hides_no_fault() -> None:
    """Only a header forbids that a response is stored."""
    app = FastAPI()

    @app.get("/now")
    def now() -> str:
        return "private"

    assert [one.code for one in lint(app)] == ["MX601"]


class Cat(BaseModel):
    name: str


class Dog(BaseModel):
    name: str


class Pets(BaseModel):
    pet: Cat | Dog


class Prefixed(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def prefix(cls, name: str) -> str:
        return f"Mr {name}"


class Opaque: ...


class Holding(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    part: Opaque


@dataclass
class Point:
    x: float
    y: float = 0


@pytest.mark.parametrize("model", [Pets, Prefixed, Holding, list[Pets], dict[str, Pets]])
def test_a_model_that_loses_a_part(model: Any) -> None:
    assert lost_part(model)


@pytest.mark.parametrize("model", [Cat, Point, list[Cat], dict[str, int], str, int | None, bytes])
def test_a_model_that_comes_back(model: Any) -> None:
    assert lost_part(model) == ""


def test_a_rule_tells_of_a_mounted_application() -> None:
    """Then its routes need not be read."""
    from maxage import Rule

    async def hidden(scope: Any, receive: Any, send: Any) -> None: ...

    counter = itertools.count()
    for rules, codes in ([], ["MX401"]), ([Rule("/hidden/**", ttl=5)], []):
        app = FastAPI()
        app.mount("/hidden", hidden, name=str(next(counter)))
        settings = CacheSettings(redis_url="memory://")
        app.add_middleware(CacheMiddleware, settings=settings, rules=rules)
        assert [one.code for one in lint(app)] == codes


class Lazy:
    """Raises without its context, as proxies of frameworks do."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("no context")


LAZY = Lazy()


def test_a_lazy_object_stops_nothing() -> None:
    app = FastAPI()

    @app.get("/now")
    def now() -> Any:
        LAZY.value += 1
        return LAZY.items[0]

    assert [one.code for one in lint(app)] == ["MX601"]
