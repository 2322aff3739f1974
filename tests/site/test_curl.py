"""Each `curl` of the pages prints what its page shows, on a server that a reader would have."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import program
from tests.support.documents import Block, blocks, pages
from tests.support.waiting import wait_until
from tests.support.workers import Workers

ELSEWHERE = "docs/examples/index.md"
"""Its blocks belong to several servers: tests/examples plays them."""
SECRETS = {"ADMIN_TOKEN": "one-that-is-hard-to-guess", "PURGE_TOKEN": "another-hard-to-guess"}


def with_curl(name: str) -> list[Block]:
    """The blocks of a page that show `curl` and its output."""
    return [one for one in blocks(name, "console") if "$ curl" in one.text and not one.reason]


def server_of(name: str) -> str:
    """The application above the first `curl` of a page; where there is none, MonitorPy."""
    first = with_curl(name)[0].line
    shown = [one for one in blocks(name, "python") if not (one.hidden or one.reason)]
    text = "\n".join(one.text for one in shown if one.line < first)
    return text if "app = " in text else "app.main:app"


@pytest.mark.parametrize("name", [one for one in pages() if with_curl(one) and one != ELSEWHERE])
def test_what_curl_prints_is_shown(
    name: str, workers: Workers, redis_url: str, tmp_path: Path
) -> None:
    """All of a page in order, on one server; numbers and times may be others."""
    settings = {"CACHE_READ_BUDGET": "5", "CACHE_WRITE_BUDGET": "5", "REDIS_URL": redis_url}
    database = {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/items.db"}
    worker = workers.start(server_of(name), env=settings | database | SECRETS)
    for block in with_curl(name):
        for one in commands_of(block):
            command, _, shown = one.partition("\n")
            if command.startswith("curl "):
                play(command, shown, worker.url, f"{block}: {command}")


def commands_of(block: Block) -> list[str]:
    """The commands behind the prompts of a block, each with the output below it."""
    return re.split(r"^\$ ", block.text.replace("\\\n", ""), flags=re.MULTILINE)[1:]


def play(command: str, shown: str, url: str, where: str) -> None:
    """Run a command, and again while a body is not there yet, until it prints what is shown."""
    command = re.sub(r"https?://[\w.:]+(?=/)", url, command)
    for variable, secret in SECRETS.items():
        command = command.replace(f"${variable}", secret)
    words = [program("curl"), "--silent", *shlex.split(command)[1:]]
    wanted = {alike(line) for line in shown.splitlines() if line}
    if "-i" in words:
        # The cache tells of each request: the first one counts.
        assert wanted - printed(words) == set(), where
    else:
        wait_until(lambda: wanted <= printed(words), where)


def printed(words: list[str]) -> set[str]:
    """The lines that a command prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return {alike(line) for line in done.stdout.splitlines()}


def alike(line: str) -> str:
    """A line with all numbers and times as 0."""
    return re.sub(r"[0-9][0-9T:.-]*", "0", line.strip())


def test_no_output_is_left_out() -> None:
    """Other output than that of `curl`, `maxage routes` and `explain` is compared by no test."""
    played = ("curl ", "maxage routes ", "maxage explain ")
    for block in (one for name in pages() for one in blocks(name, "console") if not one.reason):
        for one in commands_of(block):
            command, _, shown = one.partition("\n")
            assert command.startswith(played) or not shown.strip(), f"{block}: {command}"
    shells = [one for name in pages() for one in blocks(name, "sh") if not one.reason]
    assert [str(one) for one in shells if "curl " in one.text] == [], "fence it as console"
