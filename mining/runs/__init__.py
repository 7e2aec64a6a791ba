"""Run directories: what mining leaves on disk, and the steps that write it."""
