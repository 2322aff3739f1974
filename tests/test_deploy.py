"""The deployment files: what can be checked of them without an engine."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
REDIS_CONF = ROOT / "deploy" / "redis.conf"
UNITS = {"m": 2**20, "mb": 2**20, "g": 2**30, "gb": 2**30}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    found: dict[str, Any] = loaded["services"]
    return found


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions: name and text, without comments and continuations."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (name, rest)
        for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


@pytest.fixture(scope="module")
def directives() -> dict[str, str]:
    lines = REDIS_CONF.read_text().splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def in_bytes(size: str) -> int:
    found = re.fullmatch(r"(\d+)([a-z]+)", size)
    assert found
    return int(found[1]) * UNITS[found[2]]


class TestCompose:
    def test_follows_the_schema_of_the_compose_specification(self) -> None:
        """The file is valid by the specification's own JSON schema."""
        schema = ["--builtin-schema", "vendor.compose-spec"]
        command = [sys.executable, "-m", "check_jsonschema", *schema, str(COMPOSE)]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr

    def test_sets_what_the_guide_sets(self, services: dict[str, Any]) -> None:
        """REDIS_URL, USE_REDIS_CACHE and CACHE_EXPIRATION are the guide's, by default."""
        given = services["api"]["environment"]
        default = re.compile(r"\$\{\w+:-(.*)\}")
        values = {name: default.sub(r"\1", value) for name, value in given.items()}
        assert values["REDIS_URL"] == "redis://redis:6379/0"
        assert values["USE_REDIS_CACHE"] == "true"
        assert values["CACHE_EXPIRATION"] == "300"

    def test_redis_is_bounded_and_checked(self, services: dict[str, Any]) -> None:
        """Redis has a memory limit, its own configuration and a health check."""
        redis = services["redis"]
        assert redis["healthcheck"]["test"] == ["CMD-SHELL", "redis-cli ping | grep -q PONG"]
        mount = "./deploy/redis.conf:/etc/redis/redis.conf:ro"
        assert mount in redis["volumes"]
        assert redis["command"] == ["redis-server", "/etc/redis/redis.conf"]
        assert "mem_limit" in redis

    def test_redis_is_reached_by_the_application_only(self, services: dict[str, Any]) -> None:
        """Redis, which asks for no password, publishes no port and shares no other network."""
        assert "ports" not in services["redis"]
        assert services["redis"]["networks"] == ["cache"]
        assert yaml.safe_load(COMPOSE.read_text())["networks"]["cache"] == {"internal": True}

    def test_the_application_is_built_here_and_waits_for_redis(
        self, services: dict[str, Any]
    ) -> None:
        """The image comes from our Dockerfile; the first lease is taken at start."""
        api = services["api"]
        assert (ROOT / api["build"]["context"] / api["build"]["dockerfile"]) == DOCKERFILE
        assert api["depends_on"]["redis"]["condition"] == "service_healthy"
        # The one in the image.
        assert "healthcheck" not in api


class TestRedisConf:
    def test_evicts_within_a_bound(
        self, directives: dict[str, str], services: dict[str, Any]
    ) -> None:
        """Redis makes room before its container runs out of memory."""
        assert directives["maxmemory-policy"] == "allkeys-lru"
        assert in_bytes(directives["maxmemory"]) * 5 / 4 <= in_bytes(services["redis"]["mem_limit"])

    def test_keeps_nothing_on_disk(self, directives: dict[str, str]) -> None:
        """A cache that restarts is empty."""
        assert directives["save"] == '""'
        assert directives["appendonly"] == "no"


class TestDockerfile:
    def test_the_image_holds_no_build_tools(self, steps: list[tuple[str, str]]) -> None:
        """Two stages: only the environment is taken over from the first."""
        bases = [rest for name, rest in steps if name == "FROM"]
        assert len(bases) == 2
        assert bases[0].removesuffix(" AS build") == bases[1]
        taken = [rest for name, rest in steps if name == "COPY" and "--from" in rest]
        assert taken == ["--from=build /venv /venv"]

    def test_it_runs_as_an_unprivileged_user(self, steps: list[tuple[str, str]]) -> None:
        """The process is not root, and was made to own nothing but its data."""
        assert ("USER", "monitorpy") in steps
        names = [name for name, _ in steps]
        assert names.index("USER") > max(n for n, name in enumerate(names) if name == "RUN")

    def test_it_installs_only_what_is_pinned(self, steps: list[tuple[str, str]]) -> None:
        """Packages come by hash; our own is built from what is there."""
        installs = [rest for name, rest in steps if name == "RUN" and "pip install" in rest]
        assert "--require-hashes --no-deps" in installs[0]
        assert "--no-build-isolation --no-deps --no-index" in installs[1]
        assert len(installs) == 2

    def test_what_it_copies_is_let_through(self, steps: list[tuple[str, str]]) -> None:
        """Whatever the Dockerfile copies exists, and .dockerignore lets it through."""
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        let_through = {line.removeprefix("!") for line in lines if line.startswith("!")}
        copied = {
            source
            for name, rest in steps
            if name == "COPY" and "--from" not in rest
            for source in rest.split()[:-1]
        }
        assert copied == let_through
        assert all((ROOT / source).exists() for source in copied)

    def test_its_health_check_needs_only_python(self, steps: list[tuple[str, str]]) -> None:
        """The slim image has no curl."""
        check = next(rest for name, rest in steps if name == "HEALTHCHECK")
        command = json.loads(check[check.index("[") :])
        assert command[:2] == ["python", "-c"]
        compile(command[2], "health check", "exec")
        assert "/api/v1/health/live" in command[2]
