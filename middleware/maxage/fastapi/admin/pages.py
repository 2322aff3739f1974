"""Pages: templates with the header fields that keep them safe in a browser."""

from importlib.resources import files
from typing import Any, Final, final

from fastapi.responses import HTMLResponse, Response

from maxage import __version__
from maxage.errors import SettingsError
from maxage.fastapi.admin.chart import HEIGHT, KINDS, LINE_WIDTH, WIDTH
from maxage.insight.units import duration, share, size

_HEADERS: Final = {
    "cache-control": "no-store",
    # No script at all, nothing from elsewhere, and no frame of another site around it.
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@final
class Pages:
    """Makes the pages from their templates.

    Raises:
        SettingsError: Jinja2 is not installed.
    """

    def __init__(self, *, has_session: bool) -> None:
        try:
            import jinja2  # noqa: PLC0415 - an extra, needed for the page alone
        except ModuleNotFoundError:
            raise SettingsError(
                "admin_router() needs Jinja2: pip install 'maxage[page]'."
            ) from None
        self._templates: Final = jinja2.Environment(
            loader=jinja2.PackageLoader("maxage.fastapi.admin"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(size=size, duration=duration)
        self._shared: Final[dict[str, Any]] = {
            "share": share, "version": __version__,
            "chart_width": WIDTH, "line_width": LINE_WIDTH, "chart_height": HEIGHT,
            "kinds": KINDS, "has_session": has_session,
        }  # fmt: skip
        self._style: Final = files("maxage.fastapi.admin").joinpath("style.css").read_bytes()

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page.

        Args:
            template: its name, without the suffix.
            status: of the response.
            values: what the template shows.
        """
        text = self._templates.get_template(f"{template}.html").render(**self._shared, **values)
        return HTMLResponse(text, status, _HEADERS)

    def style(self) -> Response:
        """Return the style sheet."""
        return Response(self._style, headers=_HEADERS, media_type="text/css")
