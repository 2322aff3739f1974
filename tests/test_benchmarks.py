"""The benchmark can be run: a tiny round of it against real servers."""

from pathlib import Path

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.candidates import CANDIDATES
from tests.benchmarks.occasions import Line, called
from tests.benchmarks.report import budgets
from tests.benchmarks.rounds import Sample, ratio
from tests.benchmarks.workloads import BUDGETS, WORKLOADS, zipf


def test_a_round_measures_checks_and_reports(tmp_path: Path) -> None:
    """CPU time per request, the ratio against the floor, budgets, and a plot."""
    page, plot = tmp_path / "benchmarks.md", tmp_path / "benchmarks.svg"
    page.write_text(
        "before\n<!-- results: written by poe bench -->old\n<!-- end of the results -->after\n"
    )
    status = main([
        *("--candidates", "raw", "redis-get", "maxage-redis"),
        *("--workloads", "hit-1k", "304", "purge"),
        *("--rounds", "1", "--seconds", "0.2", "--keys", "100", "--driver", "python"),
        *("--output", str(page), "--plot", str(plot)),
    ])  # fmt: skip
    text = page.read_text()
    assert status == 0
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| raw ASGI, a constant |" in text
    assert "| hit-1k | maxage on Redis | raw ASGI, one `await redis.get()` | 0.55 |" in text
    assert "POST with its purge, 100 keys in Redis" in text
    assert "poe bench --candidates raw" in text
    assert plot.read_text().count("<rect") == 1 + 3


def test_without_wrk_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback: what is missing, and the way round it."""
    monkeypatch.setenv("PATH", "")
    assert main(["--workloads", "hit-1k"]) == 2
    assert "install wrk, or use --driver python" in capsys.readouterr().err


def test_ratios_are_taken_within_a_round() -> None:
    """A round in which the machine was busy with something else counts once, not twice."""

    def of(*cpu_us: float) -> list[Sample]:
        return [Sample(cpu_us=value, per_second=1.0) for value in cpu_us]

    samples = {"one": of(10, 200, 30), "other": of(20, 400, 30)}
    assert ratio(samples, "one", "other") == 0.5
    assert ratio(samples, "one", "absent") is None


def test_hits_per_second_are_compared_with_the_fastest_peer_on_redis() -> None:
    """Within each round; a peer that keeps its responses elsewhere is another matter."""
    rates = {"maxage-redis": (400, 700), "cashews": (100, 200), "aiocache": (80, 90)}
    rates |= {"maxage-exact": (400, 700), "hishel": (1000, 1000)}
    samples = {
        name: [Sample(cpu_us=10.0, per_second=rate) for rate in found]
        for name, found in rates.items()
    }
    text = budgets({"hit-1k": samples})
    row = (
        "| hit-1k, requests/s | {} | the fastest peer on Redis, cashews | at least {} | 3.75 | {} |"
    )
    assert row.format("maxage on Redis", 3.5, "kept") in text
    assert row.format("maxage, near cache `exact`", "5.0", "**not kept**") in text


@pytest.mark.parametrize(("ours", "verdict"), [(15.9, "kept"), (16.1, "**not kept**")])
def test_a_near_hit_called_directly_may_cost_six_microseconds_more(
    ours: float, verdict: str
) -> None:
    """Than the floor, called in the same way."""
    lines = [
        Line(called(name, 1), "", microseconds)
        for name, microseconds in (("raw", 10.0), ("maxage-prompt", ours))
    ]
    (row,) = (line for line in budgets({}, lines).splitlines() if "called directly, 1" in line)
    assert row.endswith(f"| 6 us more | {ours - 10:.1f} us more | {verdict} |")


def test_whatever_is_named_exists() -> None:
    """Workloads and budgets name candidates that there are, and a baseline that takes part."""
    for workload in WORKLOADS.values():
        assert {*workload.candidates, workload.baseline} <= CANDIDATES.keys()
        assert workload.baseline in workload.candidates
    for budget in BUDGETS:
        assert {budget.candidate, budget.against} <= {*WORKLOADS[budget.workload].candidates}


def test_zipf_asks_for_the_first_key_most_often() -> None:
    """With 1/rank the first of 100 keys comes about twice as often as the second."""
    paths = zipf(keys=100, draws=5_000, seed=1)
    assert 1.5 < paths.count("/items/0") / paths.count("/items/1") < 2.7
    assert len(set(paths)) > 90
