"""What every candidate answers, byte for byte where it can be."""

import json

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
MODIFIED = b"Mon, 23 Nov 2026 10:00:00 GMT"


def item(number: int) -> dict[str, object]:
    """Return one item, whose JSON is about 1 KB."""
    return {**ITEMS[0], "id": number, "description": "x" * 900}
