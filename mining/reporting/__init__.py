"""What people look at: the report page (`report_page`) and the page that compares two runs (`comparison_page`)."""
