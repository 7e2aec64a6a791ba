"""Metrics of boxes, on arrays."""
