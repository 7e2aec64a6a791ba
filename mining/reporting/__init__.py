"""What people look at: the report page, and the page that compares two runs."""

from mining.reporting.comparison_page import write_comparison
from mining.reporting.report_page import write_report

__all__ = ["write_comparison", "write_report"]
