"""The compose files: by the specification's schema, put together, and their options by a server."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from maxage import CacheSettings
from tests.deploy.files import DEPLOY, ROOT
from tests.support.ports import free_port
from tests.support.processes import ended, spawn
from tests.support.redis_server import RedisServer, find_server
from tests.support.waiting import wait_until

COMPOSE = ROOT / "docker-compose.yml"
OVERLAYS = sorted((DEPLOY / "compose").glob("*.yml"))
REDIS_CONF = DEPLOY / "redis.conf"
UNITS = {"m": 2**20, "mb": 2**20, "g": 2**30, "gb": 2**30}

Tree = dict[str, Any]


def loaded(path: Path) -> Tree:
    found: Tree = yaml.safe_load(path.read_text())
    return found


def by_name(value: Any) -> Any:
    """A list of names, and of NAME=VALUE, as the mapping that compose takes it for."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return dict.fromkeys(value)
    return value


def put_over(below: Any, above: Any, key: str = "") -> Any:
    """What compose makes of two files, as far as ours need it."""
    if key in {"command", "test"}:
        return above
    if key in {"networks", "depends_on"}:
        below, above = by_name(below), by_name(above)
    if isinstance(below, dict) and isinstance(above, dict):
        names = below | above
        both = below.keys() & above.keys()
        return {n: put_over(below[n], above[n], n) if n in both else names[n] for n in names}
    if isinstance(below, list) and isinstance(above, list):
        return below + [one for one in above if one not in below]
    return above


def project(path: Path) -> Tree:
    """The project with one overlay, or alone."""
    if path == COMPOSE:
        return loaded(COMPOSE)
    found: Tree = put_over(loaded(COMPOSE), loaded(path))
    return found


PROJECTS = {path.stem: project(path) for path in [COMPOSE, *OVERLAYS]}


@pytest.fixture(params=PROJECTS)
def services(request: pytest.FixtureRequest) -> Tree:
    """The services of the project, alone and with each overlay."""
    found: Tree = PROJECTS[request.param]["services"]
    return found


@pytest.fixture
def alone() -> Tree:
    """The services of the project alone."""
    found: Tree = PROJECTS[COMPOSE.stem]["services"]
    return found


@pytest.fixture(scope="module")
def directives() -> dict[str, str]:
    lines = REDIS_CONF.read_text().splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def in_bytes(size: str) -> int:
    found = re.fullmatch(r"(\d+)([a-z]+)", size)
    assert found
    return int(found[1]) * UNITS[found[2]]


class TestEachProject:
    @pytest.mark.parametrize("name", PROJECTS)
    def test_follows_the_schema_of_the_compose_specification(
        self, name: str, tmp_path: Path
    ) -> None:
        """Each file as it stands, and what it makes together with the project."""
        whole = tmp_path / "whole.json"
        whole.write_text(json.dumps(PROJECTS[name]))
        alone = COMPOSE if name == COMPOSE.stem else DEPLOY / "compose" / f"{name}.yml"
        schema = ["--builtin-schema", "vendor.compose-spec"]
        command = [sys.executable, "-m", "check_jsonschema", *schema, str(alone), str(whole)]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr

    @pytest.mark.parametrize("name", PROJECTS)
    def test_names_only_what_is_there(self, name: str) -> None:
        """Services, networks, volumes and mounted files exist; each file says how to use it."""
        whole = PROJECTS[name]
        for service in whole["services"].values():
            assert whole["services"].keys() >= by_name(service.get("depends_on", {})).keys()
            assert whole["networks"].keys() >= by_name(service["networks"]).keys()
            for volume in service.get("volumes", []):
                source = volume.partition(":")[0]
                exists = (
                    (ROOT / source).exists() if source[0] == "." else source in whole["volumes"]
                )
                assert exists, source
        if name != COMPOSE.stem:
            text = (DEPLOY / "compose" / f"{name}.yml").read_text()
            assert f"-f docker-compose.yml -f deploy/compose/{name}.yml up --build --wait" in text

    def test_the_url_of_the_store_is_one(self, services: Tree) -> None:
        """REDIS_URL is accepted, and every host in it is a service."""
        url = services["api"]["environment"]["REDIS_URL"]
        CacheSettings(redis_url=url)
        hosts = re.findall(r"([\w-]+):\d+", url)
        assert hosts
        assert services.keys() >= set(hosts)

    def test_what_it_waits_for_says_when_it_is_ready(self, services: Tree) -> None:
        """`up --wait` returns when all of it works."""
        for service in services.values():
            for name, need in (by_name(service.get("depends_on", {}))).items():
                assert need["condition"] == "service_healthy"
                assert name == "api" or "healthcheck" in services[name]

    def test_what_asks_for_no_password_is_reached_by_the_application_only(
        self, services: Tree
    ) -> None:
        """Every Redis and Sentinel is in the inner network alone, and publishes no port."""
        kept = [
            name for name, one in services.items() if re.match("redis|valkey", one.get("image", ""))
        ]
        assert "redis" in kept
        for name in kept:
            assert "ports" not in services[name]
            assert by_name(services[name]["networks"]).keys() == {"cache"}
        for name, whole in PROJECTS.items():
            assert whole["networks"]["cache"]["internal"] is True, name

    def test_ports_are_published_to_this_machine_only(self, services: Tree) -> None:
        """A firewall does not hold back what a container engine publishes."""
        for service in services.values():
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))

    def test_each_server_has_a_memory_limit(self, services: Tree) -> None:
        """None of the stores can take the machine's whole memory."""
        stores = [one for name, one in services.items() if name not in {"api", "join"}]
        assert all("mem_limit" in one for one in stores)


class TestProjectAlone:
    def test_sets_what_the_guide_sets(self, alone: Tree) -> None:
        """REDIS_URL, USE_REDIS_CACHE and CACHE_EXPIRATION are the guide's, by default."""
        given = alone["api"]["environment"]
        default = re.compile(r"\$\{\w+:-(.*)\}")
        values = {name: default.sub(r"\1", value) for name, value in given.items()}
        assert values["REDIS_URL"] == "redis://redis:6379/0"
        assert values["USE_REDIS_CACHE"] == "true"
        assert values["CACHE_EXPIRATION"] == "300"

    def test_redis_is_bounded_and_checked(self, alone: Tree) -> None:
        """Redis has a memory limit, its own configuration and a health check."""
        redis = alone["redis"]
        assert redis["healthcheck"]["test"] == ["CMD-SHELL", "redis-cli ping | grep -q PONG"]
        mount = "./deploy/redis.conf:/etc/redis/redis.conf:ro"
        assert mount in redis["volumes"]
        assert redis["command"] == ["redis-server", "/etc/redis/redis.conf"]

    def test_the_application_is_built_here_and_waits_for_redis(self, alone: Tree) -> None:
        """The image comes from our Dockerfile; the first lease is taken at start."""
        api = alone["api"]
        assert (ROOT / api["build"]["context"] / api["build"]["dockerfile"]).exists()
        assert api["depends_on"]["redis"]["condition"] == "service_healthy"
        # The one in the image.
        assert "healthcheck" not in api


class TestRedisOptions:
    def test_evicts_within_a_bound(self, directives: dict[str, str], alone: Tree) -> None:
        """Redis makes room before its container runs out of memory."""
        assert directives["maxmemory-policy"] == "allkeys-lru"
        assert in_bytes(directives["maxmemory"]) * 5 / 4 <= in_bytes(alone["redis"]["mem_limit"])

    def test_keeps_nothing_on_disk(self, directives: dict[str, str]) -> None:
        """A cache that restarts is empty."""
        assert directives["save"] == '""'
        assert directives["appendonly"] == "no"

    @pytest.mark.parametrize("name", ["redis.conf", "cluster", "sentinel"])
    def test_a_real_server_takes_them(self, directives: dict[str, str], name: str) -> None:
        """No option is misspelt, and none is refused."""
        options = [f"--{key} {value}" for key, value in directives.items() if key != "bind"]
        if name != "redis.conf":
            of_service = {"cluster": "redis-2", "sentinel": "replica"}[name]
            command = PROJECTS[name]["services"][of_service]["command"]
            assert command[:2] == ["redis-server", "/etc/redis/redis.conf"]
            options += [loopback(word) for word in command[2:]]
        with RedisServer.start(args=options) as server:
            assert server.call("CONFIG", "GET", "maxmemory")[1] == str(192 * 2**20).encode()
            if name == "cluster":
                assert server.info("cluster")["cluster_enabled"] == "1"
            if name == "sentinel":
                assert server.info("replication")["role"] == "slave"


def loopback(word: str) -> str:
    """An address of the container network as one of this machine."""
    return re.sub(r"172\.30\.77\.\d+", "127.0.0.1", word)


def test_sentinel_takes_its_configuration(tmp_path: Path) -> None:
    """The lines that the container writes are those of a Sentinel that names the primary."""
    script = PROJECTS["sentinel"]["services"]["sentinel-1"]["command"][2]
    lines = loopback(script.partition("<<END\n")[2].partition("END\n")[0])
    url = PROJECTS["sentinel"]["services"]["api"]["environment"]["REDIS_URL"]
    watched = re.search(r"sentinel monitor (\S+)", lines)
    assert watched
    assert f"/{watched[1]}/0" in url
    assert lines.splitlines()[0] == "port 26379"
    config, log = tmp_path / "sentinel.conf", tmp_path / "log"
    config.write_text(lines.replace("26379", str(free_port())))
    command = [find_server().path, config, "--sentinel", "--bind", "127.0.0.1"]
    process = spawn(command, log=log, cwd=tmp_path)
    try:
        wait_until(
            lambda: "+monitor master cache 127.0.0.1 6379 quorum 2" in log.read_text(), "it watches"
        )
    finally:
        process.terminate()
        process.wait()
        ended(process)
