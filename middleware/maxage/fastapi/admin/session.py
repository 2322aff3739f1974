"""Session of the page: a signed cookie after the token was entered, and requests of its own pages.

A session needs no store: its cookie holds when it ends, signed with the token. Every worker that
knows the token accepts it, and another token ends all sessions.
"""

import hashlib
import hmac
from typing import Final, final

from fastapi import HTTPException, Request, Response

from maxage.clock import Clock, wall_clock

COOKIE: Final = "maxage_admin"
SESSION_SECONDS: Final = 12 * 3600
NO_STORE: Final = {"cache-control": "no-store"}


@final
class Session:
    """The sessions of one page.

    Args:
        token: opens a session, and is also taken as `Authorization: Bearer ...`.
        clock: POSIX seconds.
    """

    def __init__(self, token: bytes, clock: Clock = wall_clock) -> None:
        self._token: Final = token
        self._clock: Final = clock

    def accepts(self, token: str) -> bool:
        """Return whether it is the token."""
        return hmac.compare_digest(token.encode(), self._token)

    async def check(self, request: Request) -> None:
        """Let a request with a session or the token pass.

        Raises:
            HTTPException: it has neither; a browser is led to the form that asks for the token.
        """
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.accepts(sent.strip()):
            return
        if self._is_valid(request.cookies.get(COOKIE, "")):
            return
        if "text/html" in request.headers.get("accept", "") and request.method == "GET":
            raise HTTPException(303, headers={"location": "login", **NO_STORE})
        challenge = {"www-authenticate": "Bearer", **NO_STORE}
        raise HTTPException(401, "The page takes a token: open it in a browser.", challenge)

    def begin(self, request: Request, response: Response) -> None:
        """Give the client a session."""
        ends = str(int(self._clock()) + SESSION_SECONDS)
        response.set_cookie(
            COOKIE, f"{ends}.{self._signature(ends)}",
            max_age=SESSION_SECONDS, path=_folder(request), httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip

    def end(self, request: Request, response: Response) -> None:
        """Take the session from the client."""
        response.delete_cookie(COOKIE, path=_folder(request), httponly=True, samesite="strict")

    def _is_valid(self, cookie: str) -> bool:
        ends, _, signature = cookie.partition(".")
        signed = hmac.compare_digest(signature.encode(), self._signature(ends).encode())
        return signed and ends.isdecimal() and int(ends) > self._clock()

    def _signature(self, ends: str) -> str:
        return hmac.new(
            self._token, f"maxage page until {ends}".encode(), hashlib.sha256
        ).hexdigest()


def refuse_other_sites(request: Request) -> None:
    """Refuse a form that the page of another site sends.

    Browsers say in `Sec-Fetch-Site`, or at least in `Origin`, where a form comes from. Clients that
    send neither are no browsers, and carry no cookie that another site could misuse.

    Raises:
        HTTPException: 403, it comes from another site.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_own = site in {"same-origin", "none"}
    else:
        # An origin is a scheme and a host, or `null` (RFC 6454 section 6.2).
        is_own = origin is None or origin.partition("://")[2] == request.headers.get("host")
    if not is_own:
        raise HTTPException(403, "This form was sent by another site.", NO_STORE)


def _folder(request: Request) -> str:
    """Return the path beneath which all pages lie."""
    return request.url.path.rpartition("/")[0] + "/"
