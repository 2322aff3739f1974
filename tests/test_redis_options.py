"""The options of a REDIS_URL: passed on, ignored with one log line, or refused with a sentence."""

import pytest

from maxage import CacheSettings
from maxage.errors import SettingsError
from maxage.redis_options import client_options, connection_options
from maxage.redis_store.servers.dns import url_options
from tests.support.tls_proxy import AUTHORITY, CERTIFICATE, KEY


def refusal(url: str) -> str:
    with pytest.raises(SettingsError) as caught:
        CacheSettings(redis_url=url)
    return str(caught.value)


@pytest.mark.parametrize("name", [
    "protocol", "retry", "retry_on_error", "retry_on_timeout", "socket_connect_timeout",
    "socket_timeout", "timeout",
])  # fmt: skip
@pytest.mark.parametrize("start", ["redis://h", "redis+cluster://h", "redis+sentinel://h/m"])
def test_protocol_timeouts_and_retries_are_ours(
    name: str, start: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are ignored whatever their value, and one line says so, however often it is read."""
    url = f"{start}?{name}=x{name}"
    for _ in range(3):
        assert CacheSettings(redis_url=url).redis_url == url
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"ignored {name}," in line
    assert "CACHE_READ_BUDGET" in line
    assert connection_options(url) == client_options(url) == {}


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("db=x", "db got 'x'; it takes the number of a database"),
        ("db=-1", "db got '-1'"),
        ("db=", "db got ''"),
        ("db=1&db=2", "names the option db twice"),
        ("foo=1", "foo is not known; it takes db, username"),
        ("usrname=x", "usrname is not known; did you mean username?"),
        ("host=h", "host is not known"),
        ("connection_class=x", "connection_class is not known"),
        ("credential_provider=x", "credential_provider is not known"),
        ("read_from_replicas=true", "read_from_replicas is not known"),
        ("ssl_cert_reqs=maybe", "ssl_cert_reqs got 'maybe'; it takes none, optional or required"),
        ("ssl_check_hostname=maybe", "it takes true or false"),
        ("ssl_min_version=1", "it takes 771 (TLS 1.2) or 772 (TLS 1.3)"),
        ("ssl_min_version=x", "it takes 771 (TLS 1.2) or 772 (TLS 1.3)"),
        ("ssl_ciphers=nonsense", "ssl_ciphers cannot be used"),
        ("ssl_ca_certs=/missing.pem", "ssl_ca_certs cannot be used (No such file"),
        ("ssl_ca_data=nonsense", "ssl_ca_data cannot be used"),
        (f"ssl_certfile={KEY}", "ssl_certfile cannot be used"),
        (f"ssl_keyfile={KEY}", "ssl_keyfile cannot be used"),
        ("ssl_include_verify_flags=X", "names of ssl.VerifyFlags"),
        ("sentinel_password=x", "is for sentinels"),
        ("max_connections=0", "it takes a number from 1 upward"),
        ("max_connections=many", "it takes a number from 1 upward"),
        ("health_check_interval=x", "it takes a number of seconds"),
        ("decode_responses=perhaps", "it takes true or false"),
        ("socket_keepalive=perhaps", "it takes true or false"),
        ("encoding=klingon", "the name of an encoding"),
        ("encoding=utf-16", "the name of an encoding"),
        ("encoding_errors=cry", "another error handler"),
        ("client_name=two%20words", "a name without blanks"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence(option: str, says: str) -> None:
    """It names the option and what is accepted."""
    said = refusal(f"rediss://h?{option}")
    assert said.startswith("REDIS_URL got 'rediss://h?")
    assert says in said
    assert "it takes" in said
    assert said.endswith(".")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://h?ssl_cert_reqs=none", "is for TLS; it takes it with rediss://"),
        ("unix:///s?ssl_ca_certs=x", "is for TLS"),
        ("unix:///s?socket_keepalive=true", "is for TCP"),
        ("redis+cluster://h?db=1", "a cluster has only database 0"),
        ("rediss+cluster://h?ssl_min_version=771", "cannot be had on a cluster"),
        ("redis+cluster://h?sentinel_password=x", "is for sentinels"),
    ],
)
def test_what_another_kind_of_server_takes_is_refused(url: str, says: str) -> None:
    """Rather than dropped in silence by redis-py."""
    assert says in refusal(url)


def test_no_secret_is_shown() -> None:
    """Also under a name that is misspelled."""
    for option in ("passwrd=x&password=s3cret", "pass=s3cret", "my_secret=s3cret", "token=s3cret"):
        assert "s3cret" not in refusal(f"redis://h?foo=1&{option}")
    for url in (
        "redis://u:?s3cret@h",
        "redis://u:a?s3cret&s3cret=s3cret@h",
        "redis://u:?s3cret=@h",
    ):
        assert "s3cret" not in refusal(url)
        assert "%3F" in refusal(url)
    said = refusal(f"rediss://h?ssl_certfile={CERTIFICATE}&ssl_keyfile=/s3cret&ssl_password=s3cret")
    assert "s3cret" not in said


def test_known_options_have_their_types() -> None:
    """For the store and for `get_redis`, whose own options the store does not get."""
    url = (
        "rediss://u@h:1/2?db=3&username=x&password=p%26w&client_name=web&socket_keepalive=off"
        "&decode_responses=no&encoding=latin-1&encoding_errors=replace&max_connections=7"
        "&health_check_interval=5&socket_read_size=1024&legacy_responses=1"
        f"&ssl_ca_certs={AUTHORITY}&ssl_certfile={CERTIFICATE}&ssl_keyfile={KEY}"
        "&ssl_check_hostname=False&ssl_min_version=772&ssl_cert_reqs=optional"
        "&ssl_include_verify_flags=[VERIFY_X509_STRICT, VERIFY_CRL_CHECK_LEAF]"
    )
    assert CacheSettings(redis_url=url).redis_url == url
    for in_loop in (True, False):
        options = url_options(url, in_loop=in_loop)
        assert (options["host"], options["port"], options["db"]) == ("h", 1, 3)
        assert (options["username"], options["password"]) == ("u", "p&w")
        assert options["client_name"] == "web"
        assert options["socket_keepalive"] is False
        assert options["ssl_check_hostname"] is False
        assert options["ssl_min_version"] == 772
        assert len(options["ssl_include_verify_flags"]) == 2
        assert "decode_responses" not in options
        assert "max_connections" not in options
    assert client_options(url) == {
        "decode_responses": False,
        "encoding": "latin-1",
        "encoding_errors": "replace",
        "max_connections": 7,
        "health_check_interval": 5,
        "legacy_responses": True,
    }
