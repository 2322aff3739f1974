"""The systemd unit, by systemd's own check."""

import subprocess
import sys
from pathlib import Path

from tests.deploy.files import DEPLOY, program

UNIT = DEPLOY / "systemd" / "monitorpy.service"
PYTHON = "/srv/monitorpy/.venv/bin/python"


def test_systemd_takes_it(tmp_path: Path) -> None:
    """No setting is unknown or malformed; the program that it starts stands in for ours."""
    copy = tmp_path / "monitorpy-of-a-test.service"
    text = UNIT.read_text()
    assert f"ExecStart={PYTHON} -m app\n" in text
    copy.write_text(text.replace(PYTHON, sys.executable))
    command = [program("systemd-analyze"), "verify", str(copy)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
