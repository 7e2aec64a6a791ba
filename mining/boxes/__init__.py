"""Boxes as arrays: filters, merging and IoU."""
