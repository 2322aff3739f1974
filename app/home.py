"""The page at `/`: where everything is."""

from collections.abc import Mapping
from html import escape

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<h1>{title}</h1>
<ul>
{links}
</ul>
</html>
"""


def home_page(title: str, links: Mapping[str, str]) -> str:
    """Return a page with a link to each path, under its text."""
    lines = (f'<li><a href="{escape(to)}">{escape(text)}</a>' for text, to in links.items())
    return PAGE.format(title=escape(title), links="\n".join(lines))
