"""The part of the pytest plugin that lints an application (`--maxage-lint`)."""

from typing import Final, final

import pytest

from maxage.cli.load import load
from maxage.errors import MaxageError
from maxage.lint import Finding, lint, text_of


@final
class LintPlugin:
    """Lints one application before the tests run; the run fails if there are findings.

    Args:
        name: of the application, `MODULE:APP`.
    """

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._found: tuple[Finding, ...] = ()

    def pytest_sessionstart(self) -> None:
        """Find what there is to find.

        Raises:
            UsageError: there is no such application, or a setting of its cache is invalid.
        """
        try:
            self._found = lint(load(self._name))
        except MaxageError as error:
            raise pytest.UsageError(f"--maxage-lint: {error}") from None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Let the run fail."""
        faults = [one for one in self._found if not one.is_note]
        if faults and session.exitstatus in {
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        }:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the findings."""
        terminalreporter.section(f"maxage lint {self._name}")
        terminalreporter.write_line(text_of(self._found))
