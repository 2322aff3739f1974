"""The faults of the catalogue on real workers: two nodes, without a near cache and with both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.catalogue.bench import SETUPS, Bench, Setup, started
from tests.catalogue.case import Case, Recorder, noted
from tests.catalogue.cases import FAULTS

TWO = (
    *(setup for setup in SETUPS if setup.nodes == 2),
    Setup(name="two nodes, near exact", nodes=2, near="exact"),
)


@pytest.fixture(scope="module", params=TWO, ids=lambda setup: setup.name)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """The nodes of one setup, with the default budgets."""
    setup: Setup = request.param
    folder: Path = tmp_path_factory.mktemp(setup.name)
    with started(setup, folder, patient=False) as bench:
        yield bench


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.id)
def test_fault(site: Bench, case: Case, record_property: Recorder) -> None:
    """What the case expects, comes of it."""
    noted(record_property, case, site)
    try:
        case.play(site.another_run())
    finally:
        # Whatever came of it, the next case begins with a Redis that answers.
        site.proxy.pass_through()
        site.server.ensure_running()
