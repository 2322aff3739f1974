"""Writes what the pages take from the code: the settings, the words and metrics, the pictures.

python -m tests.site.written
"""

from tests.site import operations_page, settings_page
from tests.site.pictures import PICTURES
from tests.support.documents import ROOT


def written() -> dict[str, str]:
    """The text of each file by its path in the project."""
    pictures = {f"docs/pictures/{name}.svg": draw().svg() for name, draw in PICTURES.items()}
    tables = {
        "docs/settings.md": settings_page.text(),
        operations_page.NAME: operations_page.text(),
    }
    return tables | pictures


if __name__ == "__main__":
    for name, text in written().items():
        (ROOT / name).parent.mkdir(exist_ok=True)
        (ROOT / name).write_text(text)
