"""`maxage shadow`: what the caches of all workers would have answered otherwise."""

import msgspec

from maxage.cli.output import AsJson, complain, print_json, print_text
from maxage.cli.server import Namespace, OfApplication, RedisUrl, settings_for
from maxage.shadow.publisher import read_reports

_NOTHING = (
    "no worker has compared anything within a day; set CACHE_SHADOW=true or CACHE_VERIFY for the "
    "application, with the same REDIS_URL and CACHE_NAMESPACE."
)


def shadow(
    *,
    redis_url: RedisUrl = None,
    namespace: Namespace = None,
    app: OfApplication = None,
    as_json: AsJson = False,
) -> int:
    """Show in what the cache would have answered otherwise than the handlers, of all workers.

    Exit code 1: there are differences, or no worker has compared anything.
    """
    report = read_reports(settings_for(redis_url, namespace, app))
    if report is None:
        complain(_NOTHING)
        return 1
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        print_text(str(report))
    return int(bool(report.differences))
