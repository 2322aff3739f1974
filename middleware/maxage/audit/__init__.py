"""Audit: which inputs an answer depends on that are not in its key (`CACHE_AUDIT`)."""

from maxage.audit.auditor import Auditor, audit, audit_process, begin, end
from maxage.audit.report import Finding, Report

__all__ = ["Auditor", "Finding", "Report", "audit", "audit_process", "begin", "end"]
