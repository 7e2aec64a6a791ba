"""Backbones: networks split into stages, with or without pretrained weights."""
