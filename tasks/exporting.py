"""Export a finished run or a version of a label store, or a detector."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mining.config.model_export import ModelExportSettings
from mining.export import ExportSummary
from mining.label_store.settings import VersionChoice
from tasks.progress import Stage

if TYPE_CHECKING:
    from mining.detection.onnx_export import ModelExportSummary


def export_source(source: str, format: str, out: Path, choice: VersionChoice, **options: Any) -> ExportSummary | None:
    """Export a run or version; see `mining.label_store.sources.export_source`."""
    from mining.label_store.sources import export_source as export

    stages: list[Stage] = []

    def reach(done: int, total: int) -> None:
        if not stages:
            stages.append(Stage("near-duplicates", total))
        stages[0].reach(done)

    return export(source, format, out, choice, progress=reach, **options)


def export_model(settings: ModelExportSettings) -> "ModelExportSummary":
    """Export a detector; see `mining.detection.onnx_export.export_detector`."""
    from mining.detection.onnx_export import export_detector

    return export_detector(settings)
