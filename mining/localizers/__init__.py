"""Localizers, one file per paper.

`registry` lists them and imports their classes on demand; `base` is what each of them implements; `options` has their
options, which can be checked without importing torch.
"""
