"""The pictures of the pages, by their names in docs/pictures/."""

import tomllib

from tests.site.svg import BLUE, GREEN, GREY, RED, Picture
from tests.support.documents import page


def get() -> Picture:
    """The way of a GET."""
    drawn = Picture(880, 330, "The way of a GET: from the request to a hit, or through the handler")
    drawn.box(20, 40, 130, 60, ["GET", "/items?page=2"], BLUE)
    drawn.box(180, 40, 195, 60, ["its key", "method, host, path, query"])
    drawn.box(405, 40, 190, 60, ["one question to Redis", "response and tokens"])
    drawn.box(640, 40, 210, 60, ["fresh, tokens current?", "the rules of RFC 9111"])
    drawn.arrow((150, 70), (178, 70))
    drawn.arrow((375, 70), (403, 70))
    drawn.arrow((595, 70), (638, 70))
    drawn.arrow((690, 100), (690, 158), label="yes")
    drawn.box(620, 160, 140, 60, ["a hit", "no handler runs"], GREEN)
    drawn.arrow((800, 100), (800, 270), (762, 270))
    drawn.text(806, 140, "no")
    drawn.box(560, 240, 200, 60, ["one request asks", "the others wait for it"])
    drawn.box(330, 240, 180, 60, ["your handler", "answers the client"], BLUE)
    drawn.box(20, 240, 250, 60, ["may it be stored?", "then with the tokens read before"], GREEN)
    drawn.arrow((560, 270), (512, 270))
    drawn.arrow((330, 270), (272, 270))
    drawn.arrow((60, 240), (60, 135), (495, 135), (495, 102), dashed=True)
    return drawn


def put() -> Picture:
    """What a PUT purges."""
    drawn = Picture(880, 380, "PUT /items/5 renews three tokens; what depends on them is a miss")
    drawn.text(20, 34, "PUT /items/5 writes new tokens ...", bold=True)
    drawn.text(470, 34, "... so that of what is stored", bold=True)
    groups = [("p:/items/5", "it and all beneath"), ("c:/items", "the collection, all queries")]
    groups += [("o", "all orphans: no write is known for them")]
    for number, (name, meaning) in enumerate(groups):
        drawn.box(20, 55 + number * 80, 300, 60, [name, meaning], BLUE)
    reads = [
        ("GET /items/5", 85, RED), ("GET /items/5/history", 85, RED),
        ("GET /items?page=2", 165, RED), ("GET /dashboard", 245, RED),
        ("GET /items/6", 0, GREEN), ("GET /orders", 0, GREEN),
    ]  # fmt: skip
    for number, (read, source, fill) in enumerate(reads):
        y = 50 + number * 52
        drawn.box(470, y, 220, 38, [read], fill)
        drawn.text(705, y + 24, "is a miss" if fill == RED else "stays a hit")
        if source:
            drawn.arrow((320, source), (468, y + 19))
    drawn.text(20, 322, "No key is looked for or deleted: a purge is one small")
    drawn.text(20, 340, "write, and a response with an old token is a miss.")
    return drawn


def promise() -> Picture:
    """The order of a purge and its answer."""
    drawn = Picture(880, 400, "The purge is confirmed before the answer to the write leaves")
    lives = {"client A": 70, "worker 1": 260, "Redis": 460, "worker 2": 640, "client B": 810}
    for name, x in lives.items():
        drawn.box(x - 50, 20, 100, 34, [name], BLUE if "client" in name else GREY)
        drawn.line(x, 54, 380)
    a, one, redis, two, b = lives.values()
    drawn.arrow((a, 90), (one - 2, 90), label="PUT /items/5")
    drawn.box(one - 80, 104, 160, 40, ["the handler commits"], GREY)
    drawn.arrow((one, 172), (redis - 2, 172), label="new tokens")
    drawn.arrow((redis, 200), (one + 2, 200), label="OK")
    drawn.arrow((one, 228), (a + 2, 228), label="200")
    drawn.box(10, 246, 215, 52, ["From here on", "no worker returns the old one"], GREEN)
    drawn.arrow((b, 268), (two + 2, 268), label="GET /items/5")
    drawn.arrow((two, 296), (redis + 2, 296), label="response, tokens")
    drawn.arrow((redis, 324), (two - 2, 324), label="another token")
    drawn.box(two - 90, 338, 180, 38, ["a miss: asks the handler"], GREEN)
    return drawn


def layers() -> Picture:
    """The layers of the library, as import-linter holds them."""
    project = tomllib.loads(page("pyproject.toml"))
    (contract,) = [
        one for one in project["tool"]["importlinter"]["contracts"] if one["id"] == "layers"
    ]
    rows = [line.replace("maxage.", "").replace(" : ", ", ").replace(" | ", ", ")
            for line in contract["layers"]]  # fmt: skip
    drawn = Picture(
        640, 40 + len(rows) * 44, "The layers of the library: each imports downwards only"
    )
    for number, row in enumerate(rows):
        y = 20 + number * 44
        drawn.box(40, y, 520, 34, [row], (BLUE, GREY)[number % 2])
    drawn.arrow((600, 24), (600, 16 + len(rows) * 44))
    return drawn


PICTURES = {"get": get, "put": put, "promise": promise, "layers": layers}
