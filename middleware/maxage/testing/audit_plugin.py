"""The part of the pytest plugin that audits a whole run (`--maxage-audit`)."""

from typing import Any, Final, final

import msgspec
import pytest

from maxage.audit import Auditor, Finding, begin, end

_OUTPUT: Final = "maxage_audit"


class _Told(msgspec.Struct):
    """What a worker of pytest-xdist tells its controller."""

    findings: tuple[Finding, ...]
    asked: int
    stored: int


@final
class AuditPlugin:
    """Audits all tests of this process; the run fails if there are findings."""

    def __init__(self) -> None:
        self._auditor: Final = Auditor()
        begin(self._auditor)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add the findings of a worker that has ended."""
        told = getattr(node, "workeroutput", {}).get(_OUTPUT)
        if told is not None:
            worker = msgspec.json.decode(told, type=_Told)
            self._auditor.report.merge(worker.findings, asked=worker.asked, stored=worker.stored)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell the controller, or let the run fail."""
        report = self._auditor.report
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            told = _Told(report.findings, report.asked, report.stored)
            output[_OUTPUT] = msgspec.json.encode(told).decode()
        elif report.findings and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the report."""
        terminalreporter.section("maxage audit")
        terminalreporter.write_line(str(self._auditor.report))

    def pytest_unconfigure(self) -> None:
        """End the audit."""
        end(self._auditor)
