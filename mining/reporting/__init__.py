"""What people look at: the report (`report_page`), two runs compared (`comparison_page`), maps (`maps_page`)."""
