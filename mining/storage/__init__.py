"""Files on disk: atomic writes, locks, checksums, ownership, and bounded reading of files of others."""
