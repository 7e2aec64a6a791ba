"""Formats of label and truth files, read the same way for both.

json_items   the one way in which JSON that others wrote is read
coco         COCO JSON;  voc: folders of VOC XML;  cub: CUB list files
objects      what a reader of boxes gives: images, and objects in them
left_out     what could not be used, counted by reason
"""
