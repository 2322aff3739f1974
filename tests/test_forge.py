"""The forge: its workflow does what the project's own check does; its templates are valid."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / ".github/workflows/check.yml"
FORMS = ("bug.yml", "idea.yml")


def test_the_workflow_runs_the_check_on_every_supported_python() -> None:
    """The workflow has no second copy of the check, and the classifiers name its Pythons."""
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["check"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    named = [name.rsplit(" ", 1)[1] for name in project["classifiers"] if name.startswith(prefix)]
    assert job["strategy"]["matrix"]["python"] == named


def test_the_workflow_is_one_that_the_forge_accepts() -> None:
    """The schema of workflows comes with check-jsonschema."""
    schema = ["--builtin-schema", "vendor.github-workflows"]
    command = [sys.executable, "-m", "check_jsonschema", *schema, str(WORKFLOW)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", FORMS)
def test_a_form_has_all_that_the_forge_asks_for(name: str) -> None:
    """A form without one of these is not offered; two fields of one name make it invalid."""
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE" / name).read_text())
    assert all(form[key] for key in ("name", "description", "body"))
    fields = [item for item in form["body"] if item["type"] != "markdown"]
    ids = [item["id"] for item in fields]
    assert len(ids) == len(set(ids))
    assert all(item["attributes"]["label"] for item in fields)
