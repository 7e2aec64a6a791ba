"""What people look at: the report page."""

from mining.audit.report import write_report

__all__ = ["write_report"]
