"""Counts of an exported set, as its dataset card states them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mining.export.exported_set import ExportedSet
from mining.export.val_truth import SOURCE as TRUTH
from mining.runs.box_warnings import WHOLE_IMAGE
from mining.runs.rows import BoxRow, ImageRow


@dataclass
class SetFigures:
    """Counts of the images and boxes of an export.

    Attributes:
        images: Images by part.
        unboxed: Images without a box by part.
        boxes: Boxes by part.
        sources: Boxes by source, see `ANNOTATION_SCHEMA`; truth = ground truth.
        sources_of: Boxes by part and source.
        class_boxes: Boxes by category id.
        class_images: Images with a box of the class, by category id.
        ignored: True boxes that are marked to be ignored.
        whole: Boxes that are not ground truth and cover WHOLE_IMAGE of their image or more.
        several: Images with several boxes of one class that are not ground truth.
    """

    images: Counter[str] = field(default_factory=Counter)
    unboxed: Counter[str] = field(default_factory=Counter)
    boxes: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    sources_of: Counter[tuple[str, str]] = field(default_factory=Counter)
    class_boxes: Counter[int] = field(default_factory=Counter)
    class_images: Counter[int] = field(default_factory=Counter)
    ignored: int = 0
    whole: int = 0
    several: int = 0

    @property
    def not_true(self) -> int:
        """Number of boxes that are not ground truth."""
        return self.sources.total() - self.sources[TRUTH]


def count_set(exported: ExportedSet, part_names: Mapping[str, str], *, keeps_ignored: bool) -> SetFigures:
    """Count what an exporter wrote.

    Args:
        exported: The images with their boxes.
        part_names: What the format calls the parts, where it has other names.
        keeps_ignored: Whether the format has true boxes that are to be ignored.
    """
    found = SetFigures()
    for one in exported:
        part = part_names.get(one.part, one.part)
        boxes = [box for box in one.boxes if keeps_ignored or not box.is_ignored]
        found.images[part] += 1
        found.unboxed[part] += not boxes
        found.boxes[part] += len(boxes)
        for box in boxes:
            found.sources[box.source] += 1
            found.sources_of[part, box.source] += 1
            found.ignored += box.is_ignored
            found.whole += box.source != TRUTH and _share_of_image(box, one.image) >= WHOLE_IMAGE
        classes = Counter(box.category_id for box in boxes)
        found.class_boxes.update(classes)
        found.class_images.update(classes.keys())
        own = Counter(box.category_id for box in boxes if box.source != TRUTH)
        found.several += any(number > 1 for number in own.values())
    return found


def _share_of_image(box: BoxRow, image: ImageRow) -> float:
    return (box.x1 - box.x0) * (box.y1 - box.y0) / (image.width * image.height)
