"""The embedded store: what only it does."""

from maxage import MemoryStore


async def test_tokens_of_paths_without_values_do_not_starve_the_values() -> None:
    """A scanner that asks for thousands of missing pages must not switch the cache off."""
    store = MemoryStore(100_000)
    for number in range(2000):
        await store.read((), (f"p:/missing/{number}",))
    assert await store.write([(b"key", b"x" * 1000)], keep_for=60, tokens={})
    assert (await store.read((b"key",), ())).values == [b"x" * 1000]
