"""URLs that name several servers: what is read from them, what is refused, what is shown."""

import pytest

from maxage.errors import SettingsError
from maxage.redis_options import connection_options
from maxage.redis_url import check_store_url, mask_password, server_group
from maxage.settings import CacheSettings


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys", "REDIS"])
@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
def test_every_scheme_has_its_cluster_and_its_sentinel_form(scheme: str, kind: str) -> None:
    """Valkey's are Redis' own; an s means TLS."""
    group = server_group(check_store_url(f"{scheme}+{kind}://a,b:7/{'x' * (kind == 'sentinel')}"))
    assert group is not None
    assert group.kind == kind
    assert group.scheme == ("rediss" if scheme.endswith("s") and scheme != "redis" else "redis")
    assert group.hosts == (("a", 6379 if kind == "cluster" else 26379), ("b", 7))


def test_a_plain_url_names_no_group() -> None:
    """One server by itself."""
    assert server_group("redis://h:6379/0") is None


def test_credentials_and_options_go_to_every_server() -> None:
    """As they were written: redis-py decodes them."""
    group = server_group("redis+cluster://u:p%40w@a:1,[::1]:2/?socket_keepalive=true")
    assert group is not None
    assert group.hosts == (("a", 1), ("::1", 2))
    assert group.server_url("c", 3) == "redis://u:p%40w@c:3/?socket_keepalive=true"
    assert group.server_url("::1", 2) == "redis://u:p%40w@[::1]:2/?socket_keepalive=true"


def test_several_hosts_may_be_ipv6_addresses() -> None:
    """Newer Pythons refuse to split such a URL as a whole."""
    url = "redis+cluster://a:1,[::1]:2,[::2]/?client_name=web"
    assert check_store_url(url) == url
    assert connection_options(url) == {"client_name": "web"}
    group = server_group(url)
    assert group is not None
    assert group.hosts == (("a", 1), ("::1", 2), ("::2", 6379))


def test_a_sentinel_url_names_the_primary_and_the_database() -> None:
    """The sentinels have credentials of their own, or none."""
    group = server_group(
        "rediss+sentinel://:pw@h1:26379,h2/mymaster/3"
        "?sentinel_username=s&sentinel_password=t%26t&ssl_cert_reqs=none"
    )
    assert group is not None
    assert (group.primary_name, group.database) == ("mymaster", "3")
    assert group.server_url("p", 6379) == "rediss://:pw@p:6379/3?ssl_cert_reqs=none"
    sentinel = group.sentinel_url("h1", 26379)
    assert sentinel == "rediss://h1:26379/?ssl_cert_reqs=none&username=s&password=t%26t"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+cluster://", "names no host"),
        ("redis+cluster://a,,b", "names no host"),
        ("redis+cluster://a/1", "a cluster has only database 0"),
        ("redis+cluster://a/x", "database is not a number"),
        ("redis+cluster://a:port", "host or port cannot be read"),
        ("redis+sentinel://a,b", "lacks the name of the primary"),
        ("redis+sentinel://a/mymaster/x", "database is not a number"),
        ("redis+cluster", "it takes"),
        ("unix+cluster://a", "it takes"),
    ],
)
def test_what_cannot_be_right_is_refused_in_one_sentence(url: str, says: str) -> None:
    """It says what is wrong, and what is accepted."""
    with pytest.raises(SettingsError) as caught:
        CacheSettings(redis_url=url)
    sentence = str(caught.value)
    assert sentence.startswith("REDIS_URL got ")
    assert says in sentence
    assert "it takes redis://" in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://u:s3cret@a:1,b:2",
        "redis+sentinel://:s3cret@a,b/mymaster/0?sentinel_password=s3cret",
        "redis+sentinel://a,b/mymaster?password=s3cret&db=1",
        "redis+cluster://u:s3cret@a:port,b",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    """Neither the servers' nor the sentinels', right or wrong."""
    assert "s3cret" not in mask_password(url)
    try:
        shown = repr(CacheSettings(redis_url=url)) + repr(server_group(url))
    except SettingsError as error:
        shown = str(error)
    assert "s3cret" not in shown
