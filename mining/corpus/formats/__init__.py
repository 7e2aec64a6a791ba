"""Formats of label and truth files, read the same way for both.

json_items   the one way in which JSON of other programs is read
coco         COCO JSON;  voc: folders of VOC XML;  cub: CUB list files
flags        what `difficult` and its like mean
left_out     what could not be used, counted by reason;  sentences: what is said alike of both
"""
