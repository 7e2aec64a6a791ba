"""Weighted boxes fusion: the boxes of several runs of the same images, combined.

box_tables       tables of boxes: sides, rows by image and class, moved boxes
run_fusion       runs of equal standing, such as those of localizers with different backbones
detector_fusion  a run, and a detector that learned from its boxes
"""
