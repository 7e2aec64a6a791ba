"""Decoding of image files: formats, orientation, pixel values, and a bound on memory."""
