"""Boxes of runs after the corrections by people, by the content of their images."""

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mining.label_store.schema import BOX_COLUMNS
from mining.quality.applying import HUMAN, correct_boxes
from mining.quality.verdicts import open_verdicts
from mining.runs.run import Run
from mining.storage.integrity import digest_of

Box = dict[str, Any]  # values of BOX_COLUMNS
Content = tuple[str, tuple[str, ...] | None]  # SHA-256 of an image's file, and its labels; None = unknown


def key_of(box: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what makes two boxes of an image the same one."""
    return box["category"], box["x"], box["y"], box["w"], box["h"], box["source"]


class RunBoxes:
    """The boxes of some images of a run; annotation ids are the store's, so they have none.

    Attributes:
        image_ids: Ids of the images in the run, by their content and labels.
    """

    def __init__(self, run: Run, column: str, values: Collection[str], boxes: pa.Table) -> None:
        """Take the boxes of the images whose `column` of the corpus table has one of the values."""
        corpus = run.read_corpus(["image_id", "file_name", "content_hash", "labels"])
        some = corpus.filter(pc.is_in(corpus[column], value_set=pa.array(sorted(values), pa.string())))
        self.image_ids = {
            content_of(row): row["image_id"] for row in some.to_pylist() if row["content_hash"] is not None
        }
        inside = pc.is_in(boxes["image_id"], value_set=pa.array(list(self.image_ids.values()), pa.int64()))
        self._boxes: dict[int, list[Box]] = {}
        for row in boxes.filter(inside).to_pylist():
            self._boxes.setdefault(row["image_id"], []).append(
                {name: row.get(name) for name in BOX_COLUMNS if name != "annotation_id"}
            )

    def boxes(self, content: Content) -> list[Box] | None:
        """Return the boxes of an image, best score first; None for another image."""
        image_id = self.image_ids.get(content)
        return None if image_id is None else self._boxes.get(image_id, [])

    def human_boxes(self, content_hash: str, but: Content | None = None) -> list[Box]:
        """Return the boxes that people made on images with these bytes and any labels, except for the image `but`."""
        contents = [content for content in self._by_hash.get(content_hash, []) if content != but]
        return [box for content in contents for box in self.boxes(content) or [] if box["source"] == HUMAN]

    @cached_property
    def _by_hash(self) -> dict[str, list[Content]]:
        found: dict[str, list[Content]] = {}
        for content in self.image_ids:
            found.setdefault(content[0], []).append(content)
        return found

    @cached_property
    def digest(self) -> str:
        """Identifies the boxes."""
        contents = sorted(self.image_ids, key=repr)
        return digest_of([[*one, [list(key_of(box)) for box in self.boxes(one) or []]] for one in contents])


def corrected_boxes(run: Run) -> RunBoxes:
    """Return the boxes of the images of a run with any verdict, as corrected.

    Raises:
        InputError: The verdicts are damaged.
        RunError: A table of the run is damaged.
    """
    with open_verdicts(run.path, to_write=False) as store:
        names = {one.file_name for one in store.judgements()} | {one.file_name for one in store.image_judgements()}
    return RunBoxes(run, "file_name", names, correct_boxes(run, of_run=True).annotations)


def content_of(image: Mapping[str, Any]) -> Content:
    """Return what identifies an image whatever its name is."""
    labels = image["labels"]
    return image["content_hash"], None if labels is None else tuple(sorted(labels))
