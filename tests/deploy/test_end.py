"""The end of a worker: every supervisor leaves it the time to finish its requests and sign off."""

import re

from app.__main__ import GRACE
from maxage.redis_store.leases.lease_manager import LOOK_TIMEOUT
from tests.deploy.files import DEPLOY, documents
from tests.deploy.test_compose import COMPOSE, loaded

NEEDED = GRACE + 3 * LOOK_TIMEOUT
"""Seconds from SIGTERM to the end: requests under way, then the sign-off."""


def test_compose_waits() -> None:
    """Seconds until SIGKILL."""
    grace = loaded(COMPOSE)["services"]["api"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > NEEDED


def test_systemd_waits() -> None:
    """SIGTERM goes to the supervisor of the workers alone; SIGKILL comes later, to all."""
    unit = (DEPLOY / "systemd" / "monitorpy.service").read_text()
    found = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert found
    assert int(found[1]) > NEEDED
    assert "\nKillMode=mixed\n" in unit


def test_kubernetes_waits() -> None:
    """The grace period begins with preStop, in which the pod leaves the Service."""
    app = documents((DEPLOY / "kubernetes" / "base" / "app.yaml").read_text())[0]
    pod = app["spec"]["template"]["spec"]
    command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    assert pod["terminationGracePeriodSeconds"] > int(command[1]) + NEEDED
