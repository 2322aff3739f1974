"""The image: what can be checked of the Dockerfile without an engine."""

import json
import re

import pytest

from tests.deploy.files import DEPLOY, ROOT

DOCKERFILE = DEPLOY / "Dockerfile"


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions: name and text, without comments and continuations."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (name, rest)
        for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


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
