"""The Kubernetes manifests, put together by kubectl; by their schemas too with `poe manifests`."""

import re
import subprocess
from functools import cache
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, documents, program
from tests.deploy.test_compose import directives, in_bytes

KUBERNETES = DEPLOY / "kubernetes"
NAMES = sorted(path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml"))
SCHEMAS_OF = "1.29"
"""The oldest Kubernetes that the manifests are written for."""

__all__ = ["directives"]

Tree = dict[str, Any]


@cache
def built(name: str) -> dict[tuple[str, str], Tree]:
    """The objects that a kustomization makes, by kind and name."""
    command = [program("kubectl"), "kustomize", str(KUBERNETES / name)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""
    return {(one["kind"], one["metadata"]["name"]): one for one in documents(made.stdout)}


@pytest.fixture(params=NAMES)
def objects(request: pytest.FixtureRequest) -> dict[tuple[str, str], Tree]:
    return built(request.param)


def pod(one: Tree) -> Tree:
    found: Tree = one["spec"]["template"]["spec"]
    return found


def environment(objects: dict[tuple[str, str], Tree]) -> dict[str, Any]:
    given = pod(objects["Deployment", "monitorpy"])["containers"][0]["env"]
    return {one["name"]: one.get("value") or one["valueFrom"]["secretKeyRef"] for one in given}


def test_they_follow_the_schemas(objects: dict[tuple[str, str], Tree]) -> None:
    """No field is misspelt or of another type."""
    validator = pytest.importorskip("kubernetes_validate", reason="run poe manifests")
    for one in objects.values():
        validator.validate(one, SCHEMAS_OF, strict=True)


def test_every_pod_gives_up_what_it_does_not_need(objects: dict[tuple[str, str], Tree]) -> None:
    """Not root, nothing writable but its volumes, no capability, no token, a bound of memory."""
    deployments = [one for (kind, _), one in objects.items() if kind == "Deployment"]
    assert deployments
    for one in deployments:
        spec = pod(one)
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            assert container["livenessProbe"]
            assert container["readinessProbe"]


def test_selectors_choose_pods_that_are_there(objects: dict[tuple[str, str], Tree]) -> None:
    """Services, budgets and policies name labels of a Deployment, and ports that it has."""
    pods = {name: one for (kind, name), one in objects.items() if kind == "Deployment"}
    for (kind, _), one in objects.items():
        spec = one["spec"]
        chosen = spec.get("podSelector") or spec["selector"]
        labels = chosen.get("matchLabels", chosen)
        name = labels["app.kubernetes.io/name"]
        assert pods[name]["spec"]["template"]["metadata"]["labels"] == labels
        if kind == "Service":
            ports = {port["name"] for port in pod(pods[name])["containers"][0]["ports"]}
            assert {port["targetPort"] for port in spec["ports"]} <= ports


def test_probes_ask_what_answers_without_redis(objects: dict[tuple[str, str], Tree]) -> None:
    """An outage of Redis restarts no pod, and takes none out of the Service."""
    container = pod(objects["Deployment", "monitorpy"])["containers"][0]
    asked = {name: container[name]["httpGet"]["path"] for name in container if "Probe" in name}
    assert asked == {
        "livenessProbe": "/api/v1/health/live",
        "readinessProbe": "/api/v1/health/ready",
        "startupProbe": "/api/v1/health/live",
    }


def test_where_responses_and_items_are(objects: dict[tuple[str, str], Tree]) -> None:
    """A Redis of its own goes with its address; pods that share nothing are alone."""
    given = environment(objects)
    has_redis = ("Deployment", "redis") in objects
    assert (given["REDIS_URL"] == "redis://redis:6379/0") is has_redis
    assert (("Service", "redis") in objects) is (("NetworkPolicy", "redis") in objects) is has_redis
    replicas = objects["Deployment", "monitorpy"]["spec"]["replicas"]
    assert replicas == 1 or given["DATABASE_URL"] == {"name": "monitorpy", "key": "DATABASE_URL"}


def test_redis_has_the_options_of_its_configuration(directives: dict[str, str]) -> None:
    """The manifest and deploy/redis.conf say the same, and the memory limit fits."""
    container = pod(built("base")["Deployment", "redis"])["containers"][0]
    given = dict(re.findall(r"--(\S+) (.+)", "\n".join(container["args"])))
    assert given == {name: value for name, value in directives.items() if name != "bind"}
    limit = in_bytes(container["resources"]["limits"]["memory"].replace("Mi", "m"))
    assert in_bytes(directives["maxmemory"]) * 5 / 4 <= limit
