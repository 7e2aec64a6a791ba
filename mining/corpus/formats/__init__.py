"""Formats of label and ground truth files, read in the same way for both.

json_items   JSON files of other programs, streamed
coco         COCO JSON
voc          folders of VOC XML
cub          CUB list files
parsing      values and errors that the formats share
notes        entries that were skipped, and notes that labels and ground truth share
"""
