"""All cases of the catalogue, in the order of the page."""

from tests.catalogue import (
    attack_errors,
    attack_identity,
    attack_keys,
    attack_openness,
    attack_stored,
    fault_figures,
    fault_process,
    faults,
)
from tests.catalogue.case import Case

ATTACKS: list[Case] = [
    *attack_keys.CASES,
    *attack_identity.CASES,
    *attack_errors.CASES,
    *attack_stored.CASES,
    *attack_openness.CASES,
]
LOADS: list[Case] = fault_figures.LOADS
FAULTS: list[Case] = [*faults.CASES, *fault_process.CASES, *fault_figures.CASES]
CASES: list[Case] = [*ATTACKS, *FAULTS, *LOADS]
