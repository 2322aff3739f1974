"""Purge route: purge the cache over HTTP, guarded by a token or a check of the application."""

import hmac
from collections.abc import Sequence
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Depends, HTTPException, Response, params
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from maxage.fastapi.guards import checked_guards
from maxage.invalidation.purge import apurge, apurge_all
from maxage.routing.route_policy import invalidates_only

MOST_NAMES: Final = 1000
"""Paths and tags that one request may name."""

_NO_STORE: Final = {"cache-control": "no-store"}


class Purge(BaseModel):
    """Request body: paths and tags to purge, or everything."""

    model_config = ConfigDict(extra="forbid")

    names: list[Annotated[str, Field(min_length=1)]] = Field(default=[], max_length=MOST_NAMES)
    """Paths, which begin with /, and tags, as for `maxage.purge`."""
    everything: bool = False
    """Every response and every object of the typed cache, of the whole namespace."""
    soft: bool = False
    """Serve each stored response once more, while it is refreshed in the background."""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not self.names and not self.everything:
            raise ValueError("name paths or tags, or everything: true")
        return self


class Purged(BaseModel):
    """Response body: whether the purge is confirmed."""

    confirmed: bool
    """False: Redis did not confirm the purge; it is repeated as soon as Redis is back."""


def purge_router(
    *, token: str | SecretStr | None = None, dependencies: Sequence[params.Depends] = ()
) -> APIRouter:
    """Return a router with `POST /purge`; mount it under a prefix of your own.

    It answers 200 when the purge is confirmed, and 202 when it is not yet. At least one guard is
    needed; with both, a request must pass both.

    Args:
        token: the token of `Authorization: Bearer ...`; 401 without it or with another one.
        dependencies: your own checks, such as `[Depends(require_admin)]`.

    Raises:
        SettingsError: there is no guard, or one of them is wrong.
    """
    secret, guards = checked_guards("purge_router", "purge the cache", token, dependencies)
    if secret is not None:
        guards.insert(0, Depends(_bearer(secret)))
    router = APIRouter(tags=["cache"], dependencies=guards)

    @router.post("/purge", responses={202: {"model": Purged}})
    @invalidates_only()
    async def purge(wanted: Purge, response: Response) -> Purged:
        """Purge paths and tags, or everything."""
        response.headers.update(_NO_STORE)
        if wanted.everything:
            confirmed = await apurge_all(soft=wanted.soft)
        else:
            confirmed = await apurge(*wanted.names, soft=wanted.soft)
        response.status_code = 200 if confirmed else 202
        return Purged(confirmed=confirmed)

    return router


def _bearer(token: bytes) -> Any:
    """Return the dependency that checks the token."""
    scheme = HTTPBearer(auto_error=False, scheme_name="PurgeToken")

    async def check(
        sent: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)],
    ) -> None:
        # Starlette decodes header fields as Latin-1: encoding them again gives the bytes sent.
        if sent is None:
            raise _unauthorized("A purge takes a token: Authorization: Bearer ...", "Bearer")
        given = sent.credentials.encode("latin-1", "replace")
        if not hmac.compare_digest(given, token):
            # RFC 6750 section 3.1: "invalid_token".
            raise _unauthorized("The token is not the right one.", 'Bearer error="invalid_token"')

    return check


def _unauthorized(detail: str, challenge: str) -> HTTPException:
    headers = {"www-authenticate": challenge, **_NO_STORE}
    return HTTPException(status_code=401, detail=detail, headers=headers)
