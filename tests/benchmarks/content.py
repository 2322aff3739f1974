"""What every candidate answers, byte for byte where it can be."""

import json
import random

ITEMS = [
    {
        "id": number,
        "name": f"Item {number}",
        "description": "A thing that is kept in a database and read more often than it is written.",
        "price": 9.5 + number,
    }
    for number in range(7)
]
ITEMS_BODY = json.dumps(ITEMS, separators=(",", ":")).encode()
"""About 1 KB."""

LARGE = {
    "/body/32k": bytes(range(32, 96)) * 512,
    "/body/1m": bytes(range(32, 96)) * 16_384,
}
_NAMES = ("Ada", "Ben", "Chloe", "Deniz", "Emma", "Finn", "Grace", "Hugo", "Ines", "Jonas", "Kim")
_WORDS = ("please", "leave", "the", "parcel", "at", "door", "back", "call", "before", "delivery",
          "gift", "wrap", "it", "in", "paper", "and", "add", "a", "card", "with", "our", "names",
          "second", "floor", "left", "neighbour", "knows")  # fmt: skip
MODIFIED = b"Mon, 23 Nov 2026 10:00:00 GMT"


def item(number: int) -> dict[str, object]:
    """Return one item, whose JSON is about 1 KB."""
    return {**ITEMS[0], "id": number, "description": "x" * 900}


def page(number: int) -> bytes:
    """Return a page of orders as JSON, about 32 KB."""
    chance = random.Random(number)
    orders = [
        {
            "id": number * 1000 + n,
            "customer": f"{chance.choice(_NAMES)} {chance.choice(_NAMES)}",
            "created_at": f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}T10:00:00Z",
            "status": chance.choice(("open", "paid", "shipped", "returned")),
            "total": chance.randint(100, 99_999) / 100,
            "note": " ".join(chance.choices(_WORDS, k=chance.randint(0, 12))),
        }
        for n in range(228)
    ]
    return json.dumps(orders, separators=(",", ":")).encode()
