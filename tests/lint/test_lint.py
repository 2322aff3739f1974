"""Lint: all planted faults are found, and nothing in the same application with each one mended."""

from collections import defaultdict

import pytest
from fastapi import FastAPI, Security
from fastapi.security import APIKeyHeader

from maxage import CacheMiddleware, SettingsError
from maxage.lint import Code, Finding, lint, text_of
from maxage.testing import assert_lint_clean
from tests.lint.clean import clean
from tests.lint.planted import planted

FAULTS = {
    "MX101": {"/secured", "/secured-for-a-minute", "/by-hand", "/api-key"},
    "MX102": {"/visitor", "/themed", "/advertised"},
    "MX103": {"/tenants", "/address", "/agents", "/state"},
    "MX201": {
        "/visits", "/counted/{item_id}", "/global", "/added", "/updated", "/sql", "/helped",
        "/later", "/saved",
    },
    "MX202": {"/orders"},
    "MX203": {"/late/session", "/late/block", "/late/helper", "/late/driver"},
    "MX301": {"*"},
    "MX302": {"*"},
    "MX303": {"*"},
    "MX304": {"*"},
    "MX305": {"*"},
    "MX401": {"/legacy/{path}"},
    "MX501": {"/secrets/{item_id}", "/dates/{item_id}", "*"},
    "MX601": {
        "/now", "/servers/{server_id}/status", "/users/me", "/cart", "/news/feed", "/random-quote",
        "/lots", "/greeting",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def found() -> tuple[Finding, ...]:
    return lint(planted())


@pytest.mark.parametrize("code", sorted(FAULTS))
def test_every_planted_fault_is_found(code: str, found: tuple[Finding, ...]) -> None:
    """And no other route has a finding with that code."""
    routes = {one.route.rpartition(" ")[2] for one in found if one.code == code}
    assert routes == FAULTS[code]


def test_each_code_has_a_planted_fault() -> None:
    """Two caches cannot be in one application with the others: `test_application.py` has them."""
    assert FAULTS.keys() == set(Code) - {Code.TWO_CACHES}


def test_a_mended_application_has_no_finding() -> None:
    assert lint(clean()) == ()


def test_a_finding_tells_route_reason_mend_place_and_page(found: tuple[Finding, ...]) -> None:
    one = next(one for one in found if one.code is Code.GET_WRITES and "visits" in one.route)
    assert one.route == "GET /visits"
    assert one.source.startswith("tests/lint/planted.py:")
    assert "(tests/lint/planted.py:" in one.reason
    assert one.mend
    assert one.page == "docs/lint.md#mx201"
    assert one.as_dict()["code"] == "MX201"


def test_each_route_has_one_finding_of_a_code(found: tuple[Finding, ...]) -> None:
    counts = defaultdict[tuple[str, str], int](int)
    for one in found:
        counts[one.code, one.route + one.reason] += 1
    assert set(counts.values()) == {1}


def test_codes_are_ignored_by_argument_and_by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """In any case of letters."""
    codes = {str(one.code) for one in lint(planted(), ignore=["mx101", "MX601"])}
    assert codes == FAULTS.keys() - {"MX101", "MX601"}
    monkeypatch.setenv("CACHE_LINT_IGNORE", "MX101")
    assert "MX101" not in {one.code for one in lint(planted())}


def test_an_unknown_code_is_named() -> None:
    with pytest.raises(SettingsError, match="lint got the code 'MX999' to ignore; it takes MX101,"):
        lint(clean(), ignore=["MX999"])


def test_a_route_without_hits_is_a_note_unless_hits_are_asked_for(
    found: tuple[Finding, ...],
) -> None:
    """Its answers are right; a stated lifetime without effect is a fault."""
    faults = {one.route.partition(" ")[2] for one in found if one.code == "MX101"} - {
        one.route.partition(" ")[2] for one in found if one.code == "MX101" and one.is_note
    }
    assert faults == {"/secured-for-a-minute"}
    assert {one.code for one in found if one.is_note} == {
        Code.SECURITY,
        Code.SESSION,
        Code.CORS_INSIDE,
    }


def test_the_assertion_tells_all_findings_but_notes() -> None:
    assert_lint_clean(clean())
    with pytest.raises(AssertionError, match=r"findings:\ntests/lint/planted.py:\d+: MX101 GET"):
        assert_lint_clean(planted())
    app = FastAPI(openapi_url=None)

    @app.get("/secured", dependencies=[Security(APIKeyHeader(name="x-key"))])
    async def secured() -> int:
        return 1

    app.add_middleware(CacheMiddleware)
    # Typed caches of other tests have models with findings of their own.
    (note,) = lint(app, ignore=["MX501"])
    assert note.is_note
    assert_lint_clean(app, ignore=["MX501"])
    assert text_of([note]).startswith("Note: MX101 checks credentials")
    assert text_of([note]).endswith("0 findings, 1 note")
