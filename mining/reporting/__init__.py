"""What people look at: the report of a run, and the page that compares two runs."""
