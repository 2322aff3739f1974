"""Alerts and dashboard: each query names metrics and labels that exist; by promtool where it is."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from maxage.observe.figures import FIGURES, LATENCY
from tests.deploy.files import DEPLOY, program

ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "maxage.json"
UNIT_TESTS = Path(__file__).with_name("alerts_test.yml")
OF_PROMETHEUS = {"instance", "job"}
"""The labels that a scrape adds."""

Tree = dict[str, Any]


def exported() -> dict[str, set[str]]:
    """The names under which Prometheus knows the metrics, and their labels."""
    suffix = {"counter": "_total", "gauge": ""}
    found = {one.name + suffix[one.kind]: {*one.labels, *OF_PROMETHEUS} for one in FIGURES}
    return found | {f"{LATENCY}_bucket": {"kind", "le", *OF_PROMETHEUS}, "up": OF_PROMETHEUS}


def rules() -> list[Tree]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[Tree] = group["rules"]
    return found


def panels() -> list[Tree]:
    found: list[Tree] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def queries() -> dict[str, str]:
    """All queries, by the title of their alert or panel."""
    found = {rule["alert"]: rule["expr"] for rule in rules()}
    for panel in panels():
        found |= {f"{panel['title']} {one['refId']}": one["expr"] for one in panel["targets"]}
    return found


def metrics_in(query: str) -> set[str]:
    return set(re.findall(r"\b(?:maxage_\w+|up(?=\{))", query))


@pytest.mark.parametrize("title", queries())
def test_a_query_names_metrics_and_labels_that_exist(title: str) -> None:
    """A misspelt name would be an empty panel, or an alert that never fires."""
    query, known = queries()[title], exported()
    names = metrics_in(query)
    assert names
    assert names <= known.keys()
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)(?==)", matchers)) <= known[name]
    by = {one.strip() for some in re.findall(r"by \(([^)]*)\)", query) for one in some.split(",")}
    assert all(by <= known[name] for name in names)


def test_each_metric_is_on_the_dashboard() -> None:
    """What is counted can be seen."""
    text = DASHBOARD.read_text()
    assert [name for name in exported() if name != "up" and name not in text] == []


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: Tree) -> None:
    """State, consequence and action, and labels that its query leaves."""
    told = rule["annotations"]
    assert list(told) == ["summary", "consequence", "action"]
    assert all(text.endswith(".") for text in told.values())
    assert rule["labels"]["severity"] in {"page", "ticket"}
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(told.values())))
    kept = re.search(r"\bby \(([^)]*)\)", rule["expr"])
    assert used <= ({one.strip() for one in kept[1].split(",")} if kept else OF_PROMETHEUS)


def test_panels_do_not_cover_each_other() -> None:
    """Each has a number, a place and an explanation of its own."""
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        across, down = (range(place[a], place[a] + place[b]) for a, b in (("x", "w"), ("y", "h")))
        cells = {(x, y) for x in across for y in down}
        assert not cells & taken, panel["title"]
        assert across.stop <= 24
        assert panel["description"].endswith(".")
        taken |= cells
    numbers = [panel["id"] for panel in panels()]
    assert len(set(numbers)) == len(numbers)


def promtool(*words: str, folder: Path) -> None:
    command = [program("promtool"), *words]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_takes_its_configuration() -> None:
    """The rules that it names included."""
    promtool("check", "config", "prometheus.yml", folder=DEPLOY / "prometheus")


def test_each_alert_fires_when_it_should(tmp_path: Path) -> None:
    """And none does while all is well: the unit tests name all alerts."""
    text = UNIT_TESTS.read_text()
    assert [rule["alert"] for rule in rules() if rule["alert"] not in text] == []
    for path in (ALERTS, UNIT_TESTS):
        shutil.copy(path, tmp_path)
    promtool("test", "rules", UNIT_TESTS.name, folder=tmp_path)


def test_prometheus_understands_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    """As recording rules, with Grafana's variables filled in."""
    texts = [re.sub(r"\$__rate_interval", "5m", query) for query in queries().values()]
    recorded = [
        {"record": f"query:{number}", "expr": re.sub(r"\$\w+", ".*", text)}
        for number, text in enumerate(texts)
    ]
    whole = {"groups": [{"name": "dashboard", "rules": recorded}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(whole))
    promtool("check", "rules", "rules.yml", folder=tmp_path)
