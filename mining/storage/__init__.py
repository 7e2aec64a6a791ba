"""Files on disk: atomic writes, locks, checksums, ownership, and bounded reading of untrusted files.

files             atomic file writes, JSON, hashes
folders           atomic folders
parquet           Parquet files: atomic and checksummed writes, verified reads in batches
embedded_digest   the SHA-256 in a Parquet file's own footer
integrity         verification of a run's files and records
locks             one process at a time per folder
ownership         which files boxmine may delete
names             names that become file and folder names
provenance        package versions and timestamps
untrusted_files   reading files that others wrote, within bounds
"""
