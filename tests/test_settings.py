"""The settings: read as the guide says, refused in one sentence, never showing a password."""

import ast
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.applications import Starlette

from maxage import CacheMiddleware, zstd
from maxage.errors import SettingsError
from maxage.redis_url import SCHEMES, check_store_url, mask_password, redis_py_url
from maxage.settings import CacheSettings
from maxage.settings_in_force import settings_from_environment
from tests.support.asgi import Message

NAMES = [name.upper() for name in CacheSettings.model_fields]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without any of our variables, in a folder without `.env`."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def refusal(**values: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        CacheSettings(**values)
    return str(caught.value)


def test_nothing_set_means_the_embedded_store_and_300_seconds() -> None:
    """The guide's defaults."""
    settings = CacheSettings()
    assert settings.redis_url is None
    assert settings.safe_redis_url is None
    assert settings.use_redis_cache is True
    assert settings.cache_expiration == 300


def test_the_variables_of_the_guide_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its snippet, line by line."""
    monkeypatch.setenv("REDIS_URL", "redis://redis:6379/0")
    monkeypatch.setenv("USE_REDIS_CACHE", "false")
    monkeypatch.setenv("CACHE_EXPIRATION", "60")
    settings = CacheSettings()
    assert settings.redis_url == "redis://redis:6379/0"
    assert settings.use_redis_cache is False
    assert settings.cache_expiration == 60


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, True) for word in ("true", "1", "on", "yes", "TRUE")),
        *((word, False) for word in ("false", "0", "off", "no", "False")),
    ],
)
def test_a_switch_takes_the_usual_words(
    monkeypatch: pytest.MonkeyPatch, text: str, *, value: bool
) -> None:
    """What people write into compose files."""
    monkeypatch.setenv("USE_REDIS_CACHE", text)
    assert CacheSettings().use_redis_cache is value


@pytest.mark.parametrize("name", sorted(CacheSettings.model_fields))
def test_an_empty_variable_is_an_unset_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Compose files pass `CACHE_EXPIRATION: ${CACHE_EXPIRATION:-}`; env files have empty lines."""
    default = getattr(CacheSettings(), name)
    monkeypatch.setenv(name.upper(), "")
    assert getattr(CacheSettings(), name) == default
    monkeypatch.delenv(name.upper())
    (tmp_path / ".env").write_text(f"{name.upper()}=\n")
    assert getattr(CacheSettings(), name) == default


@pytest.mark.parametrize("url", ["", " ", "\t"])
def test_an_empty_url_is_none(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Compose files pass `REDIS_URL: ${REDIS_URL:-}`."""
    monkeypatch.setenv("REDIS_URL", url)
    assert CacheSettings().redis_url is None


def test_env_files_are_read_and_may_hold_other_variables(tmp_path: Path) -> None:
    """A comment behind a value is none of the value, as in the guide's snippet."""
    (tmp_path / ".env").write_text(
        "REDIS_URL=redis://redis:6379/0\nUSE_REDIS_CACHE=true\n"
        "CACHE_EXPIRATION=77  # Cache expiration in seconds\nSOMETHING_ELSE=1\n"
    )
    assert CacheSettings().cache_expiration == 77
    assert CacheSettings().redis_url == "redis://redis:6379/0"


def test_an_env_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    """With one sentence, as a wrong setting does."""
    (tmp_path / ".env").write_bytes(b"REDIS_URL=redis://:\xff@redis\n")
    with pytest.raises(SettingsError, match=r"^\.env cannot be read: .* It is a text in UTF-8\.$"):
        CacheSettings()
    assert isinstance(CacheMiddleware(Starlette()).mistake, SettingsError)


def test_keywords_before_environment_before_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever is nearest to the program wins."""
    (tmp_path / ".env").write_text("CACHE_EXPIRATION=1\n")
    assert CacheSettings().cache_expiration == 1
    monkeypatch.setenv("CACHE_EXPIRATION", "2")
    assert CacheSettings().cache_expiration == 2
    assert CacheSettings(cache_expiration=3).cache_expiration == 3


def test_every_field_is_taken_by_keyword_in_lower_case() -> None:
    """The names of the issue, and a few others."""
    settings = CacheSettings(
        redis_url="redis://h",
        use_redis_cache=True,
        cache_expiration=300,
        cache_near_bytes=0,
        cache_near="prompt",
        cache_on_lost_purge="refuse",
    )
    assert (settings.cache_near, settings.cache_on_lost_purge) == ("prompt", "refuse")


@pytest.mark.parametrize(
    "name",
    [
        "cache_ignored_cookies",
        "cache_credential_headers",
        "cache_credential_query",
        "cache_exchange_headers",
    ],
)
@pytest.mark.parametrize(
    ("text", "names"),
    [
        (",", ()),
        ("a", ("a",)),
        ("a,b", ("a", "b")),
        (" a , b ,", ("a", "b")),
        ("_ga,_gid", ("_ga", "_gid")),
    ],
)
def test_lists_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, names: tuple[str, ...]
) -> None:
    """Blanks around names and empty members do not count; a comma alone is an empty list."""
    monkeypatch.setenv(name.upper(), text)
    assert getattr(CacheSettings(), name) == names
    assert getattr(CacheSettings(**{name: names}), name) == names
    assert getattr(CacheSettings(**{name: list(names)}), name) == names


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cache_expiration", "abc"),
        ("cache_expiration", "-1"),
        ("cache_expiration", "-0.001"),
        ("cache_expiration", "31536001"),
        ("cache_expiration", "nan"),
        ("cache_expiration", "inf"),
        ("cache_expiration", "5 minutes"),
        ("use_redis_cache", "maybe"),
        ("use_redis_cache", "2"),
        ("cache_namespace", "a b"),
        ("cache_namespace", "x" * 65),
        ("cache_read_budget", "0"),
        ("cache_read_budget", "11"),
        ("cache_max_variants", "1.5"),
        ("cache_near", "fast"),
        ("cache_near_bytes", "-1"),
        ("cache_on_lost_purge", "ignore"),
        ("cache_heuristic_fraction", "1.1"),
        ("cache_send_date", "perhaps"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """It names the variable, what it got and what it takes."""
    monkeypatch.setenv(name.upper(), value)
    with pytest.raises(SettingsError) as caught:
        CacheSettings()
    sentence = str(caught.value)
    assert sentence.startswith(f"{name.upper()} got '{value}'; it takes ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "; it takes " not in sentence.split("; it takes ", 1)[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cache_expiration", 0),
        ("cache_expiration", 0.5),
        ("cache_expiration", 31_536_000),
        ("cache_namespace", "x" * 64),
        ("cache_namespace", "my.app:v1-x_y"),
        ("cache_read_budget", 0.001),
        ("cache_read_budget", 10),
        ("cache_near_bytes", 0),
        ("cache_heuristic_fraction", 1),
    ],
)
def test_the_outermost_values_are_taken(name: str, value: Any) -> None:
    """The other side of each boundary."""
    assert getattr(CacheSettings(**{name: value}), name) == value


def test_the_sentence_says_what_an_expiration_takes() -> None:
    """Word for word, since people will read this one."""
    assert refusal(cache_expiration="abc") == (
        "CACHE_EXPIRATION got 'abc'; it takes a number of seconds from 0 to 31536000."
    )


def test_each_wrong_value_has_its_sentence() -> None:
    """Both errors are named at once."""
    said = refusal(cache_expiration="a", use_redis_cache="b")
    assert "CACHE_EXPIRATION got 'a'" in said
    assert "USE_REDIS_CACHE got 'b'" in said


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cret@h/0",
        "s3cret",
        "redis:/user:s3cret@h",
        "redis://user:s3cret@h:99999/0",
        "redis://user:s3cret@h:port/0",
        "redis://:s3cret@",
        "redis://:s3cret@h/zero",
        "redis://:a/s3cret@h/0",
        "redis://:a?s3cret@h/0",
        "redis://:a#s3cret@h/0",
        "redis://:12/s3cret@h",
        "redis://h:12/s3cret@h",
        "redis://u:[s3cret@h/0",
        "redis://:a s3cret@h/zero",
        "redis://h/zero?password=s3cret",
        "sentinel://h/zero?password=s3cret&x=1",
        "redis://h/zero?PASSWORD=s3cret",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    """One sentence that names REDIS_URL once, and what it takes."""
    said = refusal(redis_url=url)
    assert said.startswith("REDIS_URL got ")
    assert said.count("REDIS_URL") == 1
    assert said.count("it takes redis://, ") == 1
    assert said.endswith(".")
    if url != "s3cret" and not url.startswith("redis:/u"):
        assert "s3cret" not in said


@pytest.mark.parametrize("value", [5, ["redis://:s3cret@h"], b"redis://:s3cret@h:x", True])
def test_a_url_of_the_wrong_type_is_refused_without_its_content(value: Any) -> None:
    """What is no text may still hold a password."""
    said = refusal(redis_url=value)
    assert said.startswith("REDIS_URL got ")
    assert "s3cret" not in said


def test_a_secret_of_the_wrong_type_is_refused_without_its_content() -> None:
    """CACHE_SECRET is a secret too."""
    assert refusal(cache_secret=["s3cret"]) == "CACHE_SECRET got list; it takes a valid string."


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6379/0",
        "REDIS://h",
        "rediss://h/15",
        "redis://user:p%2Fw@h",
        "redis://[::1]:6379",
        "redis://h/0?health_check_interval=2",
        "unix:///run/redis.sock",
        "unix://:pw@/run/redis.sock?db=1",
        "valkey://h",
        "valkeys://h:6380",
        "memory://",
    ],
)
def test_every_known_scheme_is_taken(url: str) -> None:
    """With and without port, database, user, brackets and options."""
    assert CacheSettings(redis_url=url).redis_url == url
    assert check_store_url(f"  {url}\n") == url


def test_valkey_is_spelled_as_redis_for_the_client() -> None:
    """redis-py knows one name for both."""
    assert redis_py_url("valkey://h:1/2") == "redis://h:1/2"
    assert redis_py_url("VALKEYS://h") == "rediss://h"
    assert redis_py_url("Redis://U:P@H") == "redis://U:P@H"
    assert redis_py_url("unix:///a") == "unix:///a"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:pw@h", "redis://:***@h"),
        ("redis://user:pw@h", "redis://user:***@h"),
        ("redis://user@h", "redis://:***@h"),
        ("redis://u:p@w@h", "redis://u:***@h"),
        ("redis://u:p/w@h", "redis://u:***@h"),
        ("redis://u:p w@h", "redis://u:***@h"),
        ("redis://h?password=pw&db=1", "redis://h?password=***&db=1"),
        ("see redis://u:pw@h for more", "see redis://u:***@h for more"),
        ("no url: a@b", "no url: a@b"),
    ],
)
def test_a_password_is_shown_as_asterisks(url: str, shown: str) -> None:
    """The user name stays, since it helps to find the mistake."""
    assert mask_password(url) == shown


@given(
    st.sampled_from(SCHEMES[:5]),
    st.text(st.characters(codec="utf-8"), max_size=12),
)
@example("redis", "?")
@example("redis", "?db=")
def test_no_password_whatever_its_characters_is_shown(scheme: str, noise: str) -> None:
    """Also one that was not percent-encoded, in a URL that is refused."""
    url = f"{scheme}://user:{noise}s3cret{noise}@host:6379/0"
    try:
        settings = CacheSettings(redis_url=url)
    except SettingsError as error:
        shown = str(error)
    else:
        shown = f"{settings!r} {settings} {settings.safe_redis_url}"
    assert "s3cret" not in shown


def test_settings_do_not_show_secrets() -> None:
    """Neither the URL's password nor the secret is in any text of the object."""
    settings = CacheSettings(redis_url="redis://:s3cret@h", cache_secret="s3cret")
    assert "s3cret" not in f"{settings!r} {settings}"
    assert settings.safe_redis_url == "redis://:***@h"


def test_settings_cannot_be_changed() -> None:
    """A store that was opened with them would not learn of it."""
    with pytest.raises(ValueError, match="frozen"):
        CacheSettings().cache_expiration = 5  # type: ignore[misc]


def test_equal_settings_are_one() -> None:
    """They share their stores."""
    one, other = CacheSettings(cache_expiration=5), CacheSettings(cache_expiration=5)
    assert one == other
    assert hash(one) == hash(other)
    assert CacheSettings(cache_expiration=6) != one


def test_settings_are_read_anew_when_the_environment_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And only then."""
    before = settings_from_environment()
    assert settings_from_environment() is before
    monkeypatch.setenv("CACHE_EXPIRATION", "5")
    assert settings_from_environment().cache_expiration == 5
    monkeypatch.setenv("CACHE_EXPIRATION", "6")
    assert settings_from_environment().cache_expiration == 6
    monkeypatch.delenv("CACHE_EXPIRATION")
    assert settings_from_environment().cache_expiration == 300
    monkeypatch.setattr(os, "environ", {"CACHE_EXPIRATION": "7"})
    assert settings_from_environment().cache_expiration == 7


@pytest.mark.parametrize(
    ("keyword", "said"),
    [
        ("cache_expiraton", "did you mean cache_expiration?"),
        ("CACHE_EXPIRATION", "did you mean cache_expiration?"),
        ("zzz", "docs/settings.md lists them."),
    ],
)
def test_a_keyword_that_is_no_setting_is_refused(keyword: str, said: str) -> None:
    """A typo must not leave the default in place unsaid."""
    with pytest.raises(SettingsError, match=f"no setting {keyword!r}; ") as caught:
        CacheSettings(**{keyword: 5})
    assert str(caught.value).endswith(said)


def test_variables_beside_the_guides_three_begin_with_cache() -> None:
    """Other programs share the environment, so that no other name may be taken from them."""
    others = {name for name in CacheSettings.model_fields if not name.startswith("cache_")}
    # A function is given in code only.
    assert others - {"redis_credentials"} == {"redis_url", "use_redis_cache"}


def test_a_variable_that_is_no_setting_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment belongs to others too."""
    monkeypatch.setenv("CACHE_EXPIRATON", "5")
    assert CacheSettings().cache_expiration == 300


def test_compression_without_zstd_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the start, and not when the first response is stored."""
    assert CacheSettings(cache_compress=True).cache_compress
    monkeypatch.setattr(zstd, "_library", lambda: None)
    assert not CacheSettings(cache_compress=False).cache_compress
    with pytest.raises(SettingsError, match=r"^CACHE_COMPRESS needs .*'maxage\[zstd\]'\.$"):
        CacheSettings(cache_compress=True)


def test_standards_does_what_rfc_9111_allows() -> None:
    """The preset, against the safe defaults."""
    safe, standards = CacheSettings(), CacheSettings.standards()
    assert (safe.cache_store_set_cookie, standards.cache_store_set_cookie) == (False, True)
    assert (safe.cache_store_server_errors, standards.cache_store_server_errors) == (False, True)
    assert (safe.cache_store_client_errors, standards.cache_store_client_errors) == (False, True)
    assert (safe.cache_errors_purge, standards.cache_errors_purge) == (True, False)
    assert (safe.cache_authorization_only, standards.cache_authorization_only) == (False, True)
    assert (safe.cache_heuristic_fraction, standards.cache_heuristic_fraction) == (0, 0.1)
    assert (safe.cache_expiration, standards.cache_expiration) == (300, 0)


def test_standards_takes_keywords_before_its_own_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment fills what the preset leaves open."""
    monkeypatch.setenv("CACHE_NAMESPACE", "other")
    settings = CacheSettings.standards(cache_expiration=9)
    assert settings.cache_expiration == 9
    assert settings.cache_namespace == "other"
    assert settings.cache_heuristic_fraction == 0.1


def test_every_field_is_documented_in_the_source() -> None:
    """Each with its unit, in the line below it."""
    source = ast.parse(Path(sys.modules["maxage.settings"].__file__ or "").read_text())
    body = next(
        node.body
        for node in source.body
        if isinstance(node, ast.ClassDef) and node.name == "CacheSettings"
    )
    documented = {
        field.target.id
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }
    assert set(CacheSettings.model_fields) == documented


def test_a_wrong_setting_stops_the_start_with_its_sentence() -> None:
    """In a process of its own, as a user meets it."""
    run = subprocess.run(
        [sys.executable, "-c", "from maxage import CacheSettings; CacheSettings()"],
        env={"CACHE_EXPIRATION": "abc", "PYTHONPATH": str(_import_root())},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode != 0
    assert "SettingsError: CACHE_EXPIRATION got 'abc'; it takes a number" in run.stderr


def _import_root() -> Path:
    return Path(sys.modules["maxage"].__file__ or "").parent.parent


def test_dotenv_is_read_where_the_process_is_and_no_file_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is stronger; `_env_file=` is pydantic-settings' own keyword."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("CACHE_EXPIRATION=7\nCACHE_MAX_TAGS=4\n")
    (tmp_path / "other").write_text("CACHE_EXPIRATION=8\n")
    monkeypatch.setenv("CACHE_MAX_TAGS", "5")
    read = CacheSettings()
    assert (read.cache_expiration, read.cache_max_tags) == (7, 5)
    assert CacheSettings(_env_file="other").cache_expiration == 8
    assert CacheSettings(_env_file=None).cache_expiration == 300


@pytest.mark.anyio
async def test_a_mistake_fails_the_start_and_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starlette's test client waits for ever for an application that ends without an error."""
    monkeypatch.setenv("REDIS_URL", "http://h")
    middleware, sent = CacheMiddleware(FastAPI()), list[Message]()

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(SettingsError, match="REDIS_URL got 'http://h'") as raised:
        await middleware({"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup.failed", "message": str(raised.value)}]
