"""A script that writes to the oracle's tables: for each row on its input, it prints the version."""

import random
import sys

from sqlalchemy.orm import Session

from tests.oracle.tables_origin import engine, prepare, raised

if __name__ == "__main__":
    if sys.argv[1:] == ["prepare"]:
        prepare()
    for line in sys.stdin:
        with Session(engine) as session:
            version = raised(session, int(line), random.choice(("flush", "update", "text")))
            session.commit()
        print(version, flush=True)
