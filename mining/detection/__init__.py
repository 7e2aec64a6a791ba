"""Detectors: networks on the project's backbones that are trained from boxes, certain or not."""
