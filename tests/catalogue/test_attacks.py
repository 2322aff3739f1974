"""The attacks and loads of the catalogue on real workers: one node and two, near cache too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.catalogue.bench import SETUPS, Bench, Setup, started
from tests.catalogue.case import Case, Recorder, noted
from tests.catalogue.cases import ATTACKS, LOADS


@pytest.fixture(scope="module", params=SETUPS, ids=lambda setup: setup.name)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """The nodes of one setup, for all cases of this file."""
    setup: Setup = request.param
    folder: Path = tmp_path_factory.mktemp(setup.name)
    with started(setup, folder) as bench:
        yield bench


@pytest.mark.parametrize("case", [*ATTACKS, *LOADS], ids=lambda case: case.id)
def test_attack(site: Bench, case: Case, record_property: Recorder) -> None:
    """What the case expects, comes of it."""
    if len(site.nodes) < case.nodes:
        pytest.skip("there is no second node to it")
    noted(record_property, case, site)
    case.play(site.another_run())
