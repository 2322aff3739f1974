"""A background writer: it changes the notes of notes.py outside of the web process, and purges.

python docs/examples/purge_notes.py    # by hand, from cron, or as the body of a Celery task
"""

import sys

from notes import sql

from maxage import purge


def main() -> int:
    """Delete empty notes; return the exit code."""
    sql("DELETE FROM notes WHERE trim(text) = ''")  # first the commit, then the purge
    # Always, also where nothing was deleted: the last run may have ended between the two.
    # /notes: this path and all beneath it. notes: all that carries this tag, such as /count.
    if not purge("/notes", "notes"):
        print("Redis did not confirm the purge: run this again when it is back.", file=sys.stderr)
        return 1
    return 0


# REDIS_URL and CACHE_NAMESPACE have to be those of the web process.
if __name__ == "__main__":
    sys.exit(main())
