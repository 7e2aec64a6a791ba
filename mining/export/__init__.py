"""Export the boxes of a finished run as another tool's dataset: COCO, YOLO, Label Studio, ..."""

from mining.export.job import EXPORTERS, ExportSummary, export
from mining.runs.coco_json import write_coco_json
from mining.runs.schema import ANNOTATION_SCHEMA

__all__ = ["ANNOTATION_SCHEMA", "EXPORTERS", "ExportSummary", "export", "write_coco_json"]
