"""Boxes as arrays: filters, merging and overlap."""
