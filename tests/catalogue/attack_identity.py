"""Identity: nothing of one user reaches another."""

from maxage import CacheSettings
from tests.catalogue.bench import Bench
from tests.catalogue.case import Case, Send, get, script

AREA = "Identity"
PROXIES = (
    "x-forwarded-user",
    "x-forwarded-email",
    "x-auth-request-user",
    "x-auth-request-email",
    "remote-user",
    "x-remote-user",
    "x-webauth-user",
    "x-goog-authenticated-user-email",
    "x-goog-iap-jwt-assertion",
    "cf-access-authenticated-user-email",
    "cf-access-jwt-assertion",
    "x-amzn-oidc-identity",
    "x-amzn-oidc-data",
    "x-ms-client-principal",
    "x-ms-client-principal-name",
    "tailscale-user-login",
    "proxy-authorization",
)
"""How proxies that authenticate name the user to the application behind them."""

DECEPTIONS = [
    "/x.css",
    "/%2fx.css",
    "%2fx.css",
    ";x.css",
    "%00.css",
    "%3fx.css",
    "/..%2fx.css",
    "%0ax.css",
]
SHAREABLE = "h=cache-control:public,max-age=60"


def case(name: str, what: str, expected: str, reference: str, *steps: Send) -> Case:
    """A case that is nothing but requests."""
    return Case(
        id=name, area=AREA, what=what, expected=expected, reference=reference, play=script(*steps)
    )


def credential(name: str) -> Case:
    """A header that names a user."""
    target = f"/{{run}}/reads/{name}"
    return case(
        f"credential-{name}",
        f"`{name}`, which the handler reads without declaring it",
        "not stored, and not answered with what others were given",
        "[personal answers](security.md#personal-answers); OWASP, Authentication",
        get(target, {name: "ann"}, shows="ann", stored=False),
        get(target, hides="ann"),
        get(target, {name: "bob"}, shows="bob"),
    )


def behind(scheme: str, headers: dict[str, str], query: str, place: str) -> Case:
    """A route behind a security scheme of FastAPI."""
    target = f"/{{run}}/behind/{scheme}"
    return case(
        f"behind-{scheme}",
        f"a route behind {place}",
        "the check runs for every request, also after an answer was given",
        "OpenAPI 3.1, security scheme object; [personal answers](security.md#personal-answers)",
        get(target + query, headers, shows="secret", stored=False),
        get(target, status=401, hides="secret of"),
        get(target + query, headers, hit=False),
    )


def deception(number: int, ending: str) -> Case:
    """Web cache deception: a static-looking path on a personal page."""
    return case(
        f"deception-{number}",
        f"a victim is lured to `/me{ending}`",
        "the attacker, who asks afterwards, does not see the victim's page",
        "Gil, Web Cache Deception (2017); Mirheidari et al. (USENIX Security 2020)",
        get(f"/{{run}}/me{ending}", {"cookie": "session=victim"}, status=(200, 404), stored=False),
        get(f"/{{run}}/me{ending}", status=(200, 404), hides="victim"),
    )


def stays_private(name: str, fields: str, reference: str, *, status: int = 200) -> Case:
    """A response that forbids storing."""
    target = f"/{{run}}/says?status={status}&{fields}"
    return case(
        f"response-{name}",
        f"a response with `{fields.replace('h=', '').replace('%20', ' ').replace('&', '`, `')}`",
        "never stored",
        reference,
        get(target, status=status, stored=False),
        get(target, status=status, hit=False),
    )


def vary_by(bench: Bench) -> None:
    """Two users, one without, one with a wrong token; each on every node."""
    for turn in range(2):
        for user in ("ann", "bob"):
            answer = bench.get("/{run}/profile", {"authorization": f"Bearer {user}"}, node=turn)
            assert f"profile of {user}.".encode() in answer.body, answer
            bench.settle()
        for headers, status in (({}, 401), ({"authorization": "Bearer eve"}, 403)):
            answer = bench.get("/{run}/profile", headers, node=turn)
            assert answer.status == status, answer
            assert b"profile" not in answer.body
    hit = bench.get("/{run}/profile", {"authorization": "Bearer ann"})
    assert b"; hit" in (hit.header("cache-status") or b""), hit


def refused_purges_nothing(bench: Bench) -> None:
    """An answer of 4xx to a mutating request leaves what is stored."""
    bench.get("/{run}/row")
    bench.settle()
    for number, status in enumerate((400, 401, 403, 404, 409, 422, 429)):
        bench.send(number, "PUT", f"/{{run}}/row?status={status}")
        answer = bench.get("/{run}/row", node=number)
        assert b"; hit" in (answer.header("cache-status") or b""), (status, answer)


CASES: list[Case] = [
    case(
        "authorization",
        "an answer to a request with `Authorization`",
        "not stored, and such a request gets no other's",
        "RFC 9111 section 3.5",
        get(
            "/{run}/reads/authorization", {"authorization": "Bearer ann"}, shows="ann", stored=False
        ),
        get("/{run}/reads/authorization", hides="ann", stored=True),
        get("/{run}/reads/authorization", {"authorization": "Bearer bob"}, shows="bob", hit=False),
    ),
    case(
        "authorization-empty",
        "an empty `Authorization`",
        "counts as credentials",
        "RFC 9111 section 3.5",
        get("/{run}/reads/authorization", {"authorization": ""}, stored=False),
    ),
    case(
        "session-cookie",
        "a page for a session",
        "not stored, and no session gets another's",
        "RFC 6265 section 4.2",
        get("/{run}/me", {"cookie": "session=ann"}, shows="user=ann.", stored=False),
        get("/{run}/me", hides="ann", stored=True),
        get("/{run}/me", {"cookie": "session=bob"}, shows="user=bob.", hit=False),
    ),
    case(
        "session-behind-analytics",
        "an analytics cookie that is ignored, alone and before a session",
        "alone it does not switch the cache off; with a session nothing is stored",
        "[personal answers](security.md#personal-answers)",
        get("/plain/{run}/me", {"cookie": "_ga=1; _gid=2"}, shows="nobody", stored=True),
        get("/plain/{run}/me", {"cookie": "_ga=2"}, shows="nobody", hit=True),
        get(
            "/plain/{run}/me",
            {"cookie": "_ga=1; session=ann"},
            shows="ann",
            stored=False,
            hit=False,
        ),
        get(
            "/plain/{run}/me",
            [("cookie", "_ga=1"), ("cookie", "session=bob")],
            shows="bob",
            hit=False,
        ),
        get("/plain/{run}/me", {"cookie": "_GA=1"}, hit=False),
    ),
    case(
        "session-in-quotes",
        'a session hidden in another cookie\'s quotes: `_ga="; session=ann"`',
        "counts as a session: the application reads one",
        "RFC 6265 section 4.2.1",
        get("/plain/{run}/me", {"cookie": '_ga="; session=ann"'}, stored=False, hit=False),
        get("/plain/{run}/me", hides="ann"),
    ),
    case(
        "declared-cookie",
        "a cookie parameter that the route declares",
        "is part of the key, or the request is not cached",
        "[personal answers](security.md#personal-answers)",
        get("/{run}/cookie", {"cookie": "theme=evil"}, shows="evil"),
        get("/{run}/cookie", shows="light"),
        get("/{run}/cookie", {"cookie": "theme=dark"}, shows="dark"),
    ),
    case(
        "declared-header",
        "a plain `Header` in a dependency of a dependency, FastAPI's tutorial way to authenticate",
        "is part of the key: no request without it gets past the check",
        "FastAPI tutorial, Dependencies; [personal answers](security.md#personal-answers)",
        get("/{run}/cleared", {"x-clearance": "top"}, shows="clearance=top."),
        get("/{run}/cleared", status=400, hides="top"),
        get("/{run}/cleared", {"x-clearance": "low"}, shows="clearance=low."),
        get("/{run}/cleared", {"x-clearance": "top"}, shows="clearance=top.", hit=True),
    ),
    behind("key-header", {"x-own-key": "k"}, "", "`APIKeyHeader`"),
    behind("key-query", {}, "?api_key=k", "`APIKeyQuery`"),
    behind("key-cookie", {"cookie": "own_key=k"}, "", "`APIKeyCookie`"),
    behind("bearer", {"authorization": "Bearer t"}, "", "`HTTPBearer`"),
    behind("basic", {"authorization": "Basic YTpi"}, "", "`HTTPBasic`"),
    behind("oauth2", {"authorization": "Bearer t"}, "", "`OAuth2PasswordBearer`"),
    *(credential(name) for name in CacheSettings.model_fields["cache_credential_headers"].default),
    *(
        credential(name)
        for name in PROXIES
        if name not in CacheSettings.model_fields["cache_credential_headers"].default
    ),
    *(deception(number, ending) for number, ending in enumerate(DECEPTIONS)),
    Case(
        id="vary-by",
        area=AREA,
        what="`vary_by` that raises 401 and 403, before and after hits of others",
        expected="the application's own refusal, every time; users apart",
        reference="[personal answers](security.md#personal-answers)",
        play=vary_by,
    ),
    stays_private("set-cookie", "h=set-cookie:session=ann", "RFC 9111 section 7.3"),
    stays_private(
        "set-cookie-fresh",
        "h=Set-Cookie:a=1&h=cache-control:public,max-age=60",
        "RFC 9111 section 7.3",
    ),
    stays_private("private", "h=cache-control:private", "RFC 9111 section 5.2.2.7"),
    stays_private(
        "private-fresh", "h=cache-control:PRIVATE,max-age=60", "RFC 9111 section 5.2.2.7"
    ),
    stays_private(
        "private-line", "h=cache-control:max-age=60&h=cache-control:private", "RFC 9110 section 5.3"
    ),
    stays_private("no-store", "h=cache-control:no-store", "RFC 9111 section 5.2.2.5"),
    stays_private("no-store-quoted", 'h=cache-control:x="a,b",%20no-store', "RFC 9111 section 5.2"),
    stays_private("event-stream", "h=content-type:text/event-stream", "HTML, server-sent events"),
    case(
        "origin-reflected",
        "an `Origin` that a handler reflects without `Vary`",
        "no other origin is told that it may read",
        "Kettle, Exploiting CORS Misconfigurations (2016); Fetch, CORS protocol and HTTP caches",
        get("/{run}/origin", {"origin": "https://evil.example"}, shows="data"),
        get("/{run}/origin", {"origin": "https://good.example"}, hides="evil"),
        get("/{run}/origin", hides="evil"),
    ),
    *(
        case(
            f"cors-{where}",
            f"`CORSMiddleware` with two origins, {where} the cache",
            "each origin is allowed by name, also after answers to others and to none",
            "Fetch, CORS protocol and HTTP caches",
            get(f"/cors-{where}/{{run}}/url", lacks=("access-control-allow-origin",)),
            *(
                get(
                    f"/cors-{where}/{{run}}/url",
                    {"origin": f"https://{name}.example"},
                    has=(("access-control-allow-origin", f"https://{name}.example"),),
                )
                for name in "abab"
            ),
            get(
                f"/cors-{where}/{{run}}/url",
                {"origin": "https://evil.example"},
                lacks=("access-control-allow-origin",),
            ),
            get(f"/cors-{where}/{{run}}/url", hides="b.example"),
        )
        for where in ("outside", "inside")
    ),
    case(
        "cors-any",
        "`CORSMiddleware` with `*` inside the cache, asked first without an `Origin`",
        "a browser's request is allowed",
        "Fetch, CORS protocol and HTTP caches",
        get("/any-cors-inside/{run}/url"),
        get(
            "/any-cors-inside/{run}/url",
            {"origin": "https://a.example"},
            has=(("access-control-allow-origin", "*"),),
        ),
    ),
    Case(
        id="refused-purges-nothing",
        area=AREA,
        what="a mutating request that the application refuses with 4xx",
        expected="purges nothing",
        reference="RFC 9111 section 4.4; [the protocol](architecture.md#the-protocol)",
        play=refused_purges_nothing,
    ),
]
