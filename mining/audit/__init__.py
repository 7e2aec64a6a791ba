"""What people look at: the report page, and the page that compares two runs."""

from mining.audit.comparing import write_comparison
from mining.audit.report import write_report

__all__ = ["write_comparison", "write_report"]
