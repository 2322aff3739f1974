"""How well the model's random search finds what the hand-written traces show: `poe search`.

For each rule that `test_model.NEEDED` has a trace for, the rule is removed and the search is run
with some seeds; it says after how many examples it found a broken contract, or that it did not.
"""

import argparse
import contextlib
import io
import logging
import multiprocessing
from statistics import median
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.protocol.model import Model
from tests.protocol.test_model import NEEDED


class _Current:
    """The machine that runs now, for rules whose removal depends on it."""

    def __init__(self) -> None:
        self.examples = 0
        self.machine: Model | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.machine, name)


def examples_until_found(position: int, chosen: int, most: int) -> int | None:
    """Return how many examples it took with the rule removed; None: they were not enough."""
    logging.disable(logging.CRITICAL)
    removed, _ = NEEDED[position]
    current = _Current()

    class Searched(Model):
        def __init__(self) -> None:
            super().__init__()
            current.examples, current.machine = current.examples + 1, self

    options = settings(
        max_examples=most,
        stateful_step_count=40,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        removed(patch, cast("Any", current))
        try:
            run_state_machine_as_test(seed(chosen)(Searched), settings=options)
        except AssertionError as error:
            if "was acknowledged" not in str(error):
                raise
            return current.examples
    return None


def main() -> None:
    """Search, and print a line for each rule."""
    parser = argparse.ArgumentParser(prog="poe search", description=__doc__)
    parser.add_argument("--examples", type=int, default=300, help="for each rule and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="rules whose name contains this")
    options = parser.parse_args()
    with multiprocessing.Pool(2) as pool:
        for position, (removed, _) in enumerate(NEEDED):
            if options.only in removed.__name__:
                runs = [(position, chosen, options.examples) for chosen in range(options.seeds)]
                found = pool.starmap(examples_until_found, runs, chunksize=1)
                numbers = [number for number in found if number is not None]
                middle = f"after {median(numbers):g} examples (median)" if numbers else ""
                print(f"{removed.__name__}: {len(numbers)} of {len(found)} {middle}", flush=True)


if __name__ == "__main__":
    main()
