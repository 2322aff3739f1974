"""Messages with very many header lines cost little: who sends them may be hostile."""

import tracemalloc
from time import process_time

from maxage.rfc9111.message import Headers
from tests.support.timing import in_time


def test_the_names_of_many_messages_take_few_bytes() -> None:
    """Each message has thousands of short names, and none has the names of another one."""
    tracemalloc.start()
    try:
        for number in range(1100):
            names = (b"%d" % number, *([b"a", b"b"] * 1000))
            assert len(Headers(tuple((name, b"") for name in names)).get_all(b"a")) == 1000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8_000_000, most


def test_many_lines_of_one_name_are_found_in_a_moment() -> None:
    """Twice as many take twice as long, and not four times."""
    headers = Headers(((b"a", b""),) * 100_000)
    began = process_time()
    assert len(headers.get_all(b"a")) == 100_000
    in_time(process_time() - began, 2)
