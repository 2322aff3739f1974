"""Orders of users: each user sees their own, an admin sees all. FastAPI with users and roles.

uvicorn --app-dir docs/examples users:app
"""

from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from maxage import CacheMiddleware, cached

# In place of a database, for one worker; real tokens are long, random, and stored as a hash.
TOKENS = {"ada-token": "ada", "bob-token": "bob", "eve-token": "eve"}
ROLES = {"ada": "customer", "bob": "customer", "eve": "admin"}
ORDERS = [("ada", "tea"), ("bob", "coffee")]

app = FastAPI()
app.add_middleware(CacheMiddleware)


def user_of(given: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    """Return the name of the user, or answer 401."""
    if given.credentials not in TOKENS:
        raise HTTPException(401)
    return TOKENS[given.credentials]


User = Annotated[str, Depends(user_of)]


def name_and_role(request: Request) -> str:
    """Return what the user adds to the key. It runs at every request, hits included."""
    token = request.headers["authorization"].removeprefix("Bearer ")
    name = TOKENS[token]  # no such token: the error makes the cache step aside, the route says 401
    return f"{name}:{ROLES[name]}"


# vary_by pays here: the list is slow to make, and the same user asks for it often. The role is part
# of the key, so that a user who is no longer an admin finds no list that an admin got.
@app.get("/orders")
@cached(ttl=60, vary_by=name_and_role)
def list_orders(user: User) -> list[tuple[str, str]]:
    """List the orders of the user, or all of them for an admin."""
    return [order for order in ORDERS if ROLES[user] == "admin" or order[0] == user]


# It purges /orders for all users: every key, whatever vary_by returned.
@app.post("/orders", status_code=201)
def add_order(user: User, thing: str) -> None:
    """Order something."""
    ORDERS.append((user, thing))


# No vary_by: it is quick to make. It is not stored, since the request carries credentials.
@app.get("/me")
def me(user: User) -> dict[str, str]:
    """Answer who asks."""
    return {"name": user, "role": ROLES[user]}


@app.put("/roles/{name}")
def change_role(user: User, name: str, role: str) -> None:
    """Give a user another role."""
    if ROLES[user] != "admin":
        raise HTTPException(403)
    ROLES[name] = role


# The same for all, signed in or not: "public" says so, and one stored response serves everyone.
@app.get("/things")
@cached(isolated=True)  # no write of this application changes it
def list_things(response: Response) -> list[str]:
    """List what can be ordered."""
    response.headers["Cache-Control"] = "public, max-age=60"
    return ["coffee", "tea"]
