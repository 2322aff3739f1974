"""Labels of URLs: what is published of a URL."""

import pytest

from maxage import CacheSettings
from maxage.insight.label import LONGEST_LABEL, label_of
from maxage.routing.default_lifetime import SecretNames
from tests.support.asgi import http_scope

SECRETS = SecretNames(("x-user-id", *CacheSettings().cache_credential_query))


@pytest.mark.parametrize(
    ("target", "label"),
    [
        ("/items", "GET /items"),
        ("/items?limit=5&page=2", "GET /items?limit=5&page=2"),
        ("/a?token=hush&b=1", "GET /a?token=***&b=1"),
        ("/a?b=1;access_token=hush", "GET /a?b=1;access_token=***"),
        ("/a?Api-Key=hush", "GET /a?Api-Key=***"),
        ("/a?api%5Fkey=hush", "GET /a?api%5Fkey=***"),
        ("/a?X-Amz-Signature=hush&x=1", "GET /a?X-Amz-Signature=***&x=1"),
        ("/a?x-user-id=7", "GET /a?x-user-id=***"),
        ("/a?x_user_id=7", "GET /a?x_user_id=***"),
        ("/back?code=hush&state=s", "GET /back?code=***&state=s"),
        ("/a?code=de", "GET /a?code=de"),
        ("/a?q=" + "x" * 50, "GET /a?q=" + "x" * 40 + "..."),
        ("/a?" + "x" * 50, "GET /a?" + "x" * 40 + "..."),
        ("/a%20b?c=%C3%A4", "GET /a%20b?c=%C3%A4"),
    ],
)
def test_secrets_are_hidden_and_values_are_cut(target: str, label: str) -> None:
    """Those of the default lifetime's list, and those that the settings call credentials."""
    scope = http_scope(target=target.encode())
    assert label_of(scope, SECRETS) == label
    assert label_of({**scope, "method": "HEAD"}, SECRETS) == label


def test_a_label_is_bounded_and_printable() -> None:
    """Whatever a client sends."""
    scope = http_scope(target=b"/" + b"\xff\x00\n" * 5000)
    label = label_of(scope, SECRETS)
    assert len(label) <= LONGEST_LABEL + len("GET ...")
    assert label.isascii()
    assert label.isprintable()
