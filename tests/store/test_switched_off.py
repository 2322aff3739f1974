"""An embedded store that was given up because several workers have one each."""

import pytest

from maxage import MemoryStore, StoreUnavailableError


async def test_reads_nothing_and_keeps_nothing() -> None:
    """Neither the response cache nor the typed cache finds anything in it any more."""
    store = MemoryStore()
    assert await store.write([(b"key", b"value")], keep_for=60, tokens={})
    store.switch_off()
    assert not store.trusted
    with pytest.raises(StoreUnavailableError):
        await store.read((b"key",), ("n",))
    assert not await store.write([(b"key", b"value")], keep_for=60, tokens={})


async def test_until_then_it_is_in_use() -> None:
    """The other side."""
    store = MemoryStore()
    assert store.trusted
    await store.write([(b"key", b"value")], keep_for=60, tokens={})
    assert (await store.read((b"key",), ())).values == [b"value"]
