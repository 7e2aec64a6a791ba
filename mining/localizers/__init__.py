"""Localizers, one file per paper.

`registry` lists them and imports their classes on demand; `base` is the contract that each of them implements;
`options` has their options, which can be checked and described without importing torch.
"""
