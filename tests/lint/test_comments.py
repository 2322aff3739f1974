"""Comments that silence a finding of one endpoint."""

from collections.abc import Generator
from typing import Any

import pytest
from fastapi import Depends, FastAPI

from maxage.lint import lint


def late() -> Generator[None]:  # maxage: ignore[MX203]
    session: Any = object()
    yield
    session.commit()


def above(app: FastAPI) -> None:
    # maxage: ignore[MX601] - asked by a test alone
    @app.get("/now")
    async def now() -> str:
        return ""


def at_the_decorator(app: FastAPI) -> None:
    @app.get("/now")  # maxage: ignore[MX101, MX601]
    async def now() -> str:
        return ""


def at_the_function(app: FastAPI) -> None:
    @app.get("/now")
    async def now() -> str:  # maxage: ignore[mx601]
        return ""


def at_the_dependency(app: FastAPI) -> None:
    @app.post("/items", dependencies=[Depends(late)])
    async def add() -> None: ...


@pytest.mark.parametrize("routes", [above, at_the_decorator, at_the_function, at_the_dependency])
def test_a_comment_silences_its_code(routes: Any) -> None:
    app = FastAPI()
    routes(app)
    assert lint(app) == ()


def of_another_code(app: FastAPI) -> None:
    @app.get("/now")  # maxage: ignore[MX101]
    async def now() -> str:
        return ""


def in_the_body(app: FastAPI) -> None:
    @app.get("/now")
    async def now() -> str:
        text = "a"
        # maxage: ignore[MX601] - too late
        return text + text


@pytest.mark.parametrize("routes", [of_another_code, in_the_body])
def test_other_comments_silence_nothing(routes: Any) -> None:
    app = FastAPI()
    routes(app)
    assert [one.code for one in lint(app)] == ["MX601"]
