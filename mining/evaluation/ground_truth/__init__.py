"""Read ground truth: COCO JSON, VOC XML and CUB folders, checked for foreign box formats."""
