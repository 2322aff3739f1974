"""Writes docs/pictures/page.png: the overview of the page of the reference application.

    python -m tests.site.screenshot

It needs Chromium on PATH, and three minutes: the overview shows minutes.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import httpx

from tests.support.documents import ROOT
from tests.support.redis_server import RedisServer
from tests.support.workers import Worker

PICTURE = ROOT / "docs" / "pictures" / "page.png"
TOKEN = "of-the-screenshot-only"
BROWSERS = "chromium", "chromium-browser", "google-chrome"
SECONDS = 170
READS = [f"/api/v1/items/{number}" for number in (1, 2, 3, 1, 2, 1)]
READS += ["/api/v1/items?limit=50", "/api/v1/items?kind=http", "/api/v1/items?q=api"]


def main() -> None:
    """Start the application, ask it for a while, and take the picture."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit("There is no Chromium on PATH: install one, or leave the picture as it is.")
    with tempfile.TemporaryDirectory() as name, RedisServer.start() as redis:
        folder = Path(name)
        env = {
            "ADMIN_TOKEN": TOKEN,
            "CACHE_INSIGHT": "true",
            "DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'items.db'}",
            "REDIS_URL": redis.url,
        }
        with Worker.start("app.main:app", tmp_path=folder, env=env, workers=2) as worker:
            ask(worker.url)
            take(browser, worker.url, folder)


def ask(url: str) -> None:
    """Read again and again, more and more often, and change something now and then."""
    with httpx.Client(base_url=url) as client:
        began = time.monotonic()
        for number, read in enumerate(cycle(READS)):
            client.get(read)
            if number % 97 == 0:
                client.patch("/api/v1/items/1", json={"description": f"Changed {number} times."})
            passed = time.monotonic() - began
            if passed > SECONDS:
                return
            time.sleep(0.02 + 0.06 * abs((passed % 120) / 60 - 1))


def take(browser: str, url: str, folder: Path) -> None:
    """Save the page with its style, and let the browser draw it."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}
    with httpx.Client(base_url=url, headers=headers) as client:
        html = client.get("/cache/").text
        (folder / "style.css").write_text(client.get("/cache/style.css").text)
    (folder / "page.html").write_text(html)
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1180,1000"]
    page = (folder / "page.html").as_uri()
    subprocess.run(
        [browser, *options, f"--screenshot={PICTURE}", page], check=True, capture_output=True
    )


if __name__ == "__main__":
    main()
