"""The sketch of the heaviest names: its bounds hold for every stream."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from maxage.insight.space_saving import SpaceSaving

streams = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(1, 9)), max_size=200)


@given(streams, st.integers(1, 12))
def test_a_weight_is_never_too_small_and_its_error_is_known(
    stream: list[tuple[str, int]], size: int
) -> None:
    """And each name heavier than the total divided by the size is kept (Metwally, theorem 3)."""
    sketch, true = SpaceSaving(size), Counter[str]()
    for name, weight in stream:
        sketch.offer(name, weight)
        true[name] += weight
    kept = dict(sketch.heaviest(size))
    assert len(kept) == min(size, len(true))
    for name, entry in kept.items():
        assert entry.weight - entry.error <= true[name] <= entry.weight
    assert {name for name in true if true[name] > true.total() / size} <= kept.keys()


def test_the_heaviest_come_first() -> None:
    """With what was counted beside their weight."""
    sketch = SpaceSaving(3)
    for name in "abbbcc":
        sketch.offer(name, 1).hits += 1
    assert [(name, entry.weight, entry.hits) for name, entry in sketch.heaviest(2)] == [
        ("b", 3, 3),
        ("c", 2, 2),
    ]


def test_threads_may_count_at_once() -> None:
    """As several event loops do: a hit raises nothing, whatever others count."""
    sketch = SpaceSaving(8)

    def count(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(20_000):
            sketch.offer(f"u{draw.randrange(40)}", 1)

    with ThreadPoolExecutor(4) as pool:
        for counted in [pool.submit(count, seed) for seed in range(4)]:
            counted.result()
    assert len(sketch) == 8


def test_a_new_name_costs_no_look_at_all_others() -> None:
    """Most hits of an application with many URLs are of names that are not in the sketch."""
    looks = 0

    class Name(str):
        __slots__ = ()

        def __hash__(self) -> int:
            nonlocal looks
            looks += 1
            return super().__hash__()

    sketch = SpaceSaving(256)
    for number in range(2_000):
        sketch.offer(Name(number), 1)
    assert looks < 20 * 2_000
