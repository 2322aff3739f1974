"""Builds the site from docs/ into build/site/html, without a network.

    python -m tests.site

Every warning is an error: a link, an anchor or a name of the reference that leads nowhere.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.documents import ROOT

FOLDER = ROOT / "build" / "site"
ELSEWHERE = {"changelog.md": "CHANGELOG.md", "contributing.md": ".github/CONTRIBUTING.md"}
"""Pages whose source has its place outside of docs/."""


def build(folder: Path = FOLDER) -> Path:
    """Build the site in the folder and return where its pages lie.

    Zensical takes pages and settings only from one folder, in which it writes: it gets a copy.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pages = folder / "docs"
    shutil.copytree(ROOT / "docs", pages)
    settings = (pages / "zensical.toml").read_text()
    (pages / "zensical.toml").unlink()
    library = os.path.relpath(ROOT / "middleware", folder)
    (folder / "zensical.toml").write_text(settings.replace("../../middleware", library))
    for name, source in ELSEWHERE.items():
        text = re.sub(r"\]\((\.\./)?docs/", "](", (ROOT / source).read_text())
        (pages / name).write_text(text)
    for page in pages.rglob("*.md"):
        page.write_text(within(page.read_text(), page.parent, pages))
    command = [str(Path(sys.executable).parent / "zensical"), "build", "--strict", "--clean"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        raise SystemExit(said.partition("Traceback")[0].strip())
    return folder / "html"


def within(text: str, folder: Path, pages: Path) -> str:
    """The text without its links to files that are not on the site, such as tests."""

    def kept(link: re.Match[str]) -> str:
        target = (folder / link[2].partition("#")[0]).resolve()
        return link[0] if target.is_relative_to(pages.resolve()) else link[1]

    return re.sub(r"\[([^][]+)\]\((\.\./[^)]+)\)", kept, text)


if __name__ == "__main__":
    made = build()
    print(f"{made / 'index.html'}; with the search: python -m http.server -d {made}")
