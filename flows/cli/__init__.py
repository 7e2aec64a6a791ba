"""The command line: one file per group of commands, and the tables and sentences that they print."""
