"""Evaluation protocols of papers and of their released code, reproduced exactly, each by its name."""
