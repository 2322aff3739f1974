"""Writes: in a GET, without a purge, or committed too late."""

import re
from collections.abc import Iterator
from typing import Final

from maxage.invalidation.group_names import named_path
from maxage.invalidation.purged_by_write import Reach
from maxage.lint.application import Application, Route
from maxage.lint.code.effects import commits, effects, purges
from maxage.lint.code.late_commits import late_commit
from maxage.lint.code.reached import reached
from maxage.lint.codes import Code
from maxage.lint.finding import Finding
from maxage.route_map import mapped_write, unsafe_methods
from maxage.routing.template import split

_CHANGES_NOTHING: Final = re.compile(
    r"(?i)^(?:log-?_?in|log-?_?out|sign-?_?in|sign-?_?out|auth|authenticate|authorize|token|tokens|"
    r"access-token|refresh|oauth|sso|session|sessions|verify|validate|check|search|query|filter|"
    r"find|lookup|preview|render|calculate|compute|convert|estimate|predict|test|test-\w+|"
    r"echo|ping|parse|parser|compare|export|webhook|webhooks|password-recovery\S*|forgot-password)$"
)
"""Words in paths that are requested by POST though they change nothing that is read."""


def check_get_writes(app: Application) -> Iterator[Finding]:
    """Yield the reads that change something, unless they purge by hand."""
    for read in app.reads:
        if unsafe_methods(read.info) or read.answers.streams:
            # A function for two methods writes at the other one; and a stream
            # notes its listeners.
            continue
        found = list(read.effects)
        scopes = list(read.scopes)
        if not found and read.is_stored:
            # The exit code of a generator is the end of a session.
            plain = [each for _, each in read.dependencies if not late_commit(each)]
            scopes = list(reached(plain))
            found = list(effects(scopes))
        if found and not purges(scopes):
            skips = "; a hit skips it" if read.is_stored and not read.answers.forbidden else ""
            reason = f"It writes, {found[0]}, and a GET purges nothing{skips}."
            mend = (
                "Let a POST, PUT, PATCH or DELETE do it; or say @uncached, and purge by hand what "
                "it changes (apurge)."
            )
            yield from read.report(Code.GET_WRITES, reason, mend)


def check_purges(app: Application) -> Iterator[Finding]:
    """Yield the writes that purge no read but the orphans, where others may become stale."""
    orphans = frozenset(app.map.orphans)
    at_risk = [
        read.template
        for read in app.reads
        if read.is_stored and not read.answers.forbidden and not read.terms.policy.isolated
        and read.template not in orphans
    ]  # fmt: skip
    all_reads = Reach([read.info for read in app.reads], [write.info for write in app.writes])
    for write in app.writes if at_risk else ():
        policy, mapped = write.terms.policy, mapped_write(app.map, write.info, write.method)
        if (
            mapped is None
            or policy.only
            or any(named_path(name) is None for name in policy.invalidates)
            or not orphans.issuperset(mapped.reads)
        ):
            continue
        # Where the reads of its own tree are never cached, nothing there gets stale.
        if all_reads.reached([write.info]) or purges(write.scopes) or not _may_change(write):
            continue
        shown = ", ".join(at_risk[:3]) + (" ..." if len(at_risk) > 3 else "")
        beside = f" but {', '.join(mapped.reads[:3])}" if mapped.reads else ""
        reason = f"It purges no read{beside}; these stay as they are: {shown}."
        mend = (
            "Name what it changes: @invalidates('/path', 'tag'), or say @invalidates_only() if it "
            "changes nothing that is read."
        )
        yield from write.report(Code.PURGES_NOTHING, reason, mend)


def _may_change(write: Route) -> bool:
    """Return whether a write changes something, by its source, or else by its name."""
    if write.effects:
        return True
    words = split(write.template)
    last = words[-1] if words else ""
    if any(map(_CHANGES_NOTHING.match, words)):
        return False
    # A POST to something that is no collection may be an action, such as sending a mail.
    return write.method != "POST" or "{" in last or last.endswith("s")


def check_late_commits(app: Application) -> Iterator[Finding]:
    """Yield the writes whose dependency commits after the answer was sent."""
    if app.settings.cache_strict_hold:
        return
    for write in app.writes:
        if commits(write.scopes) or write.terms.policy.only:
            continue
        for dependency, function in write.dependencies:
            place = late_commit(function) if dependency.exits_late else None
            if place is not None:
                reason = (
                    f"Its dependency {function.node.name} commits after the answer was sent, "
                    f"{place}: a read in between stores the old state until the second purge."
                )
                mend = (
                    "Commit before the handler returns, take Depends(..., scope='function'), or "
                    "set CACHE_STRICT_HOLD=true."
                )
                yield from write.report(Code.LATE_COMMIT, reason, mend, function)
                break
