"""Default lifetimes on responses that change by themselves, or that are one user's own."""

import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

from maxage.lint.application import Application, Route
from maxage.lint.code.moments import moments
from maxage.lint.code.reached import reached
from maxage.lint.codes import Code
from maxage.lint.finding import Finding
from maxage.routing.template import is_parameter, split

_MOMENT: Final = frozenset({
    "now", "live", "realtime", "status", "random", "progress", "uptime", "time", "clock",
    "timestamp", "online", "presence", "heartbeat", "health", "healthz", "healthcheck", "current",
    "today", "feed", "poll", "logs", "telemetry", "countdown", "ticker",
    "shuffle", "dice", "lottery", "nonce", "otp", "captcha", "csrf", "uuid", "queue",
})  # fmt: skip
"""Words for things that change without a write to this application."""
_FIRST: Final = frozenset({"csrf", "current", "live", "random", "realtime"})
"""The same where a word follows: `random-quote`."""
_LAST: Final = _MOMENT - {"time", "current", "queue", "online", "poll", "clock", "today"}
"""The same behind a word: `server-status`; `reading-time` and `message-queue` are none."""
_ANYWHERE: Final = frozenset({"now", "live", "realtime", "random"})
_FROM_ELSEWHERE: Final = frozenset({
    "balance", "exchange-rates", "forecast", "latest", "rates", "temperature", "ticker", "traffic",
    "weather",
})  # fmt: skip
"""Words for things of other systems, if no write of this application reaches the read."""
_OF_THE_USER: Final = frozenset({"me", "my", "mine", "myself", "self"})
_PERSONAL: Final = _OF_THE_USER | {
    "cart", "basket", "wishlist", "checkout", "inbox",
    "notifications", "unread", "profile", "account", "whoami", "session", "userinfo", "favorites",
    "favourites", "recommendations", "current-user", "currentuser",
}  # fmt: skip
"""Words for one user's own things, where no parameter in front of them names the user."""


def check_alive(app: Application) -> Iterator[Finding]:
    """Yield the reads with a default lifetime that look as if they change by themselves."""
    written = {write.template for write in app.writes}
    orphans = frozenset(app.map.orphans)
    for read in app.reads:
        answers = read.answers
        is_default = read.is_default_only and read.terms.policy.vary_by is None
        if not is_default or answers.forbidden or answers.lifetime:
            continue
        cause = _cause(read, written, has_writes=bool(app.writes) and read.template not in orphans)
        if cause:
            seconds = f"{read.terms.rules.default_lifetime:g}"
            reason = f"{cause}, and its responses are fresh for {seconds} s by CACHE_EXPIRATION."
            mend = "State a lifetime that fits (@cached(ttl=...), a Rule), or say @uncached."
            yield from read.report(Code.ALIVE, reason, mend)


def _cause(read: Route, written: set[str], *, has_writes: bool) -> str:
    words = [segment.lower() for segment in split(read.template)]
    word = next((one for one in words if one in _FROM_ELSEWHERE and not has_writes), "")
    if word:
        return f"{word!r} in its path names what another system changes"
    word = moment_word(read.template) if read.template not in written else ""
    if word:
        return f"{word!r} in its path names what changes without a write"
    word = personal_word(read.template)
    if word:
        return f"{word!r} in its path names one user's own"
    place = next(moments(reached(read.handlers, depth=1)), None)
    return f"It depends on the moment, {place}" if place is not None else ""


def moment_word(template: str) -> str:
    """Return the segment of a path that names a thing that changes by itself; empty: none does."""
    segments = split(template)
    words = [segment for segment in segments if not is_parameter(segment)]
    # One parameter may follow: `/status/{job}`.
    word = next((segment for segment in segments[-2:][::-1] if segment in words), "")
    match _tokens(word):
        case [single] if single in _MOMENT:
            return word
        case [first, *_, last] if first in _FIRST or last in _LAST:
            return word
        case _:
            return next((word for word in words if word.lower() in _ANYWHERE), "")


def personal_word(template: str) -> str:
    """Return the segment of a path that names one user's own thing; empty: none does."""
    segments = split(template)
    for segment, after in zip_longest(segments, segments[1:], fillvalue=""):
        word = segment.lower().replace("_", "-")
        if is_parameter(segment):
            return ""
        # A parameter behind it may name the owner: `/cart/{cart_id}`.
        if word in _PERSONAL and (word in _OF_THE_USER or not is_parameter(after)):
            return segment
    return ""


def _tokens(segment: str) -> list[str]:
    """Return the words of a segment: of `serverStatus`, `server_status` and `feed.xml`."""
    name = segment.partition(".")[0]
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    return [word.lower() for word in re.split(r"[-_~]+", spaced) if word]
