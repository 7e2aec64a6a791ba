"""Evaluation protocols of activation maps, reproduced exactly from papers and their released code."""
