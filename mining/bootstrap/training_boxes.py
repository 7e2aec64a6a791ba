"""The boxes of a run as a detector learns from them: chosen, weighted by how far they can be trusted, or ignored.

Of each class that an image is labelled with, the best box is taken however low its score (there is an object, and this
is the best guess), and further boxes from a score on. Places that may show an object but were not chosen are neither
object nor background: boxes below that score, and what the map reaches at a low threshold.

Reference:
    The idea of taking the best box and those near its score: adaptive pseudo ground truth in Zhu et al., "WeakSAM:
    Segment Anything Meets Weakly-supervised Instance-level Recognition", ACM MM 2024.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mining.arrays import Bools, Floats, Ints
from mining.boxes.iou import iou_matrix
from mining.config.mine import CURVE_THRESHOLDS
from mining.corpus.images.decoding import resolve_image_path
from mining.corpus.schema import LABELLED, QUARANTINED
from mining.detection.boxed_images import BoxedImage
from mining.errors import InputError
from mining.quality.applying import HUMAN
from mining.quality.table import read_boxes_with_quality
from mining.runs.run import CALIBRATION_FILE, Run

FURTHER_SHARE = 0.5  # of the best score of its image and class, from which a further box is taken
LEAST_WEIGHT = 0.2  # of a box that was chosen
IGNORED_LEVEL = 0.2  # threshold of the map below which an unboxed place is background
SAME_PLACE_IOU = 0.5  # an ignored region that overlaps a chosen box of its class as much is that box's surroundings


@dataclass(frozen=True)
class TrainingBoxes:
    """What a detector is trained on.

    Attributes:
        images: The images with their boxes; images that show no class of the run have none.
        classes: [{"id": 1, "name": "dog"}, ...], which the boxes' classes count into.
        boxes: Number of boxes.
        skipped: Labelled images without any box, which would teach that their objects are background.
    """

    images: list[BoxedImage]
    classes: list[dict[str, object]]
    boxes: int
    skipped: int


def boxes_of_run(run: Run) -> TrainingBoxes:
    """Choose and weight the boxes of a run.

    The weight of a box is its probability of being correct where the run is calibrated (`boxmine audit calibrate`),
    else its score over the score that a quarter of the class's boxes exceed, at most 1 and at least LEAST_WEIGHT. Boxes
    that a person made weigh 1, and are all taken.

    Args:
        run: A finished run.

    Raises:
        RunError: A table of the run is missing or damaged.
        InputError: No image has a box.
    """
    table = read_boxes_with_quality(run) if (run.path / CALIBRATION_FILE).is_file() else run.read_annotations()
    if not len(table):
        raise InputError(f"{run.path} has no box to train a detector on.")
    image = table["image_id"].to_numpy()
    score = table["score"].to_numpy().astype(np.float64)
    category = _class_places(run, table["category_id"].to_numpy())
    xywh = np.stack([table[side].to_numpy().astype(np.float64) for side in "xywh"], axis=1)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    is_human = pc.equal(table["source"], HUMAN).to_numpy()
    chosen, weight = is_human.copy(), np.ones(len(table))
    mined = np.flatnonzero(~is_human)
    if len(mined):
        chosen[mined] = _choose(image[mined], category[mined], score[mined])
        weight[mined] = _weights(table.take(mined), category[mined], score[mined])
    wide = _wide_places(run)
    by_image = _rows_by_image(image)
    images, skipped = [], 0
    corpus = run.read_corpus(["image_id", "file_name", "content_hash", "labels", "state"])
    for row in corpus.to_pylist():
        rows = by_image.get(row["image_id"], np.empty(0, np.int64))
        if not len(rows) and not _shows_nothing(row):
            skipped += row["labels"] is not None
            continue
        own, left = rows[chosen[rows]], rows[~chosen[rows]]
        further = wide.get(row["image_id"], np.empty((0, 5)))
        images.append(
            BoxedImage(
                path=resolve_image_path(run.image_root, row["file_name"]),
                content_hash=row["content_hash"],
                boxes=xyxy[own].astype(np.float32),
                classes=category[own],
                weights=weight[own].astype(np.float32),
                ignored=_ignored(xyxy[own], category[own], xyxy[left], further).astype(np.float32),
            )
        )
    return TrainingBoxes(images, list(run.card.classes), int(chosen.sum()), skipped)


def _class_places(run: Run, category_id: Ints) -> Ints:
    places = {entry["id"]: place for place, entry in enumerate(run.card.classes)}
    return np.array([places[one] for one in category_id.tolist()], np.int64)


def _rows_by_image(image: Ints) -> dict[int, Ints]:
    order = np.argsort(image, kind="stable")
    ids, first = np.unique(image[order], return_index=True)
    return dict(zip(ids.tolist(), np.split(order, first[1:]), strict=True))


def _choose(image: Ints, category: Ints, score: Floats) -> Bools:
    """(n,) bool: the best box of its image and class, or one with at least FURTHER_SHARE of that one's score."""
    _, pair = np.unique(np.stack([image, category]), axis=1, return_inverse=True)
    pair = pair.ravel()
    best = np.full(pair.max() + 1, -np.inf)
    np.maximum.at(best, pair, score)
    return score >= FURTHER_SHARE * best[pair]


def _weights(table: pa.Table, category: Ints, score: Floats) -> Floats:
    """(n,) weights in LEAST_WEIGHT to 1, see `boxes_of_run`."""
    typical = np.ones(len(score))
    for one in np.unique(category):
        of_class = category == one
        typical[of_class] = max(float(np.quantile(score[of_class], 0.75)), 1e-6)
    weight = score / typical
    if "p_correct" in table.column_names:
        probability = table["p_correct"].to_numpy(zero_copy_only=False).astype(np.float64)
        weight = np.where(np.isfinite(probability), probability, weight)
    return np.clip(weight, LEAST_WEIGHT, 1.0)


def _shows_nothing(row: dict[str, object]) -> bool:
    """Whether an image is known to show none of the classes, so that all of it is background."""
    return row["labels"] == [] and row["state"] not in (LABELLED, QUARANTINED)


def _wide_places(run: Run) -> dict[int, Floats]:
    """By image id, (k, 5): x0, y0, x1, y1 in px of the map's box at IGNORED_LEVEL, and the place of its class."""
    if not run.curves.is_file():
        return {}
    step = int(np.argmin(np.abs(np.array(CURVE_THRESHOLDS) - IGNORED_LEVEL)))
    columns = ["image_id", "category_id", "width", "height", "map_width", "map_height", "xyxy"]
    found: dict[int, list[Floats]] = {}
    for batch in pq.ParquetFile(run.curves).iter_batches(columns=columns):
        edges = batch["xyxy"].flatten().to_numpy().reshape(len(batch), -1, 4)[:, step].astype(np.float64)
        size = np.stack([batch[name].to_numpy().astype(np.float64) for name in columns[2:6]], axis=1)
        edges *= np.tile(size[:, :2] / size[:, 2:], 2)
        places = _class_places(run, batch["category_id"].to_numpy())
        for image_id, box, place in zip(batch["image_id"].to_pylist(), edges, places, strict=True):
            if box.any():
                found.setdefault(image_id, []).append(np.append(box, place))
    return {image_id: np.stack(boxes) for image_id, boxes in found.items()}


def _ignored(own: Floats, own_class: Ints, left: Floats, wide: Floats) -> Floats:
    """(m, 4) regions that are neither object nor background: boxes that were left out, and wide places of a class.

    A wide place that is nearly a chosen box of its class is left out: around that box is background.
    """
    kept = [left.reshape(-1, 4)]
    for place in wide:
        of_class = own[own_class == int(place[4])]
        if not len(of_class) or iou_matrix(place[:4], of_class).max() < SAME_PLACE_IOU:
            kept.append(place[None, :4])
    return np.concatenate(kept)
