"""`maxage doctor`: whether the server suits the cache, and what to change."""

from dataclasses import asdict

from maxage.cli.output import AsJson, print_json, print_text, waiting
from maxage.cli.server import Namespace, OfApplication, RedisUrl, settings_for
from maxage.insight.doctor import Check, State, diagnose
from maxage.redis_store.observer import Observer


def doctor(
    *,
    redis_url: RedisUrl = None,
    namespace: Namespace = None,
    app: OfApplication = None,
    as_json: AsJson = False,
) -> int:
    """Check the server: version, memory, permissions, latency, tracking, clock.

    Exit code 1: something has to be changed.
    """
    settings = settings_for(redis_url, namespace, app)
    with waiting("Asking the server ..."):
        checks = list(diagnose(settings, Observer(settings)))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            _print(check)
    return int(any(check.state is State.WRONG for check in checks))


def _print(check: Check) -> None:
    print_text(f"{check.state:5}  {check.name:11}  {check.found}")
    if check.change:
        print_text(f"{'':20}{check.change}")
