"""What a request notes of itself, also from several threads at once."""

import threading

from maxage import MemoryStore
from maxage.invalidation.dependencies import Dependencies


def test_a_request_that_notes_nothing_has_nothing() -> None:
    """And what another one notes is not its own."""
    one, other = (Dependencies(mutating=False, store=MemoryStore()) for _ in range(2))
    one.depend("g:a", b"token")
    one.note_typed_write("g:b")
    one.note_purge("g:c")
    one.note_soft_purge("g:d")
    one.note_tag("g:e")
    assert (dict(one.read), dict(one.typed_writes)) == ({"g:a": b"token"}, {"g:b": None})
    assert (one.purged, one.softened, one.tags) == ({"g:c"}, {"g:d"}, {"g:e"})
    assert one.changed()
    assert not any((other.read, other.typed_writes, other.purged, other.softened, other.tags))
    assert not other.changed()


def test_no_note_is_lost_when_several_threads_are_the_first() -> None:
    """A handler may hand its work to threads."""
    for _ in range(50):
        dependencies, ready = Dependencies(mutating=True, store=MemoryStore()), threading.Barrier(8)

        def note(
            number: int,
            dependencies: Dependencies = dependencies,
            ready: threading.Barrier = ready,
        ) -> None:
            ready.wait()
            dependencies.note_purge(f"g:{number}")
            dependencies.depend(f"g:{number}", b"token")

        threads = [threading.Thread(target=note, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        groups = {f"g:{number}" for number in range(8)}
        assert dependencies.purged == set(dependencies.read) == groups
        assert not dependencies.unprotected
