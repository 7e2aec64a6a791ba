"""Publish a label store as a version of boxmine did whose boxes had fewer columns: python earlier_version.py FOLDER.

A process of its own, because the columns are taken away before any other module reads them.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pytest

from mining.runs import schema

LATER_COLUMNS = ("refinement", "mean_probability", "cut_agreement", "map_agreement", "is_part")


def publish(folder: Path) -> None:
    """Make a project in the folder, with two images, and label them."""
    kept = [field for field in schema.ANNOTATION_SCHEMA if field.name not in LATER_COLUMNS]
    assert len(kept) == len(schema.ANNOTATION_SCHEMA) - len(LATER_COLUMNS)
    schema.ANNOTATION_SCHEMA = pa.schema(kept)
    from tests.unit.engine.painting import BOX, RED, list_painted, scene
    from tests.unit.label_store.project import LabelProject

    with pytest.MonkeyPatch.context() as patch:
        list_painted(patch)
        project = LabelProject(folder)
        for name in ("a.png", "b.png"):
            project.add_image(name, scene((BOX, RED)))
        project.run_job(mine=PLAIN)


PLAIN = {"refine": "none", "parts": False}

if __name__ == "__main__":
    publish(Path(sys.argv[1]))
