"""An embedded store that was given up because several workers have one each."""

import pytest

from maxage import MemoryStore, StoreUnavailableError


async def test_reads_nothing_and_keeps_nothing() -> None:
    """Neither the response cache nor the typed cache finds anything in it any more."""
    store = MemoryStore()
    assert await store.write([(b"key", b"value")], keep_for=60, tokens={})
    store.switch_off()
    async with store.mutating() as may_be_confirmed:
        assert not may_be_confirmed
    with pytest.raises(StoreUnavailableError):
        await store.read((b"key",), ("n",))
    assert not await store.write([(b"key", b"value")], keep_for=60, tokens={})


async def test_until_then_it_is_in_use() -> None:
    """The other side."""
    store = MemoryStore()
    async with store.mutating() as may_be_confirmed:
        assert may_be_confirmed
    await store.write([(b"key", b"value")], keep_for=60, tokens={})
    assert (await store.read((b"key",), ())).values == [b"value"]
