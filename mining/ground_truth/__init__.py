"""True boxes in COCO JSON, VOC XML and CUB folders: read, matched with images, checked before they are learned from."""
