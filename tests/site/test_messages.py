"""docs/messages.md has every log line and error of the library, with its mend."""

import re
from collections import Counter

from tests.site.messages import messages
from tests.support.documents import page


def listed() -> list[str]:
    """The messages that the page shows, each in the first cell of its row."""
    rows = re.findall(r"^\| (?:\d{3} )?`(.+?)` \| .+ \|$", page("docs/messages.md"), re.MULTILINE)
    return [row.replace("\\|", "|") for row in rows]


def test_no_message_is_missing() -> None:
    """A person who meets one finds what to do."""
    missing = {one.text: one for one in messages() if one.text not in listed()}
    rows = [f"| `{text}` | (of {one.place}) what to do |" for text, one in missing.items()]
    assert rows == [], "add to docs/messages.md:\n" + "\n".join(rows)


def test_no_message_is_out_of_date() -> None:
    """The page shows no message that the library does not have."""
    assert set(listed()) - {one.text for one in messages()} == set()


def test_no_message_is_listed_twice() -> None:
    """Each has one row, and one mend."""
    assert [text for text, rows in Counter(listed()).items() if rows > 1] == []
