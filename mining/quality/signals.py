"""Signals per box that need neither ground truth nor a network: tables of a finished run in, one row per box out."""

import numpy as np
import pyarrow as pa

from mining.arrays import Bools, Floats, Ints
from mining.boxes.iou import paired_iou
from mining.errors import RunError
from mining.evaluation.boxes import Detections, TruthBoxes, candidate_pairs, compute_overlaps
from mining.ground_truth.matching import match_classes, match_names
from mining.quality.box_arrays import BOX_COLUMNS, BoxArrays, column_floats
from mining.quality.schema import SIGNAL_FIELDS
from mining.quality.threshold_signals import threshold_signals
from mining.runs.run import Run

BORDER_SHARE = 0.01
MIN_CLASS_BOXES = 5
MIN_SPREAD = 0.1
MAX_DEVIATION = 5.0


def compute_signals(run: Run, agree_with: Run | None = None) -> pa.Table:
    """Compute the signals of a run's boxes.

    Args:
        run: A finished run.
        agree_with: Another finished run of the same images, for `run_agreement`.

    Returns:
        annotation_id and the columns of SIGNAL_FIELDS, in the order of annotations.parquet.

    Raises:
        RunError: A table is missing or damaged, or the two runs share no image.
    """
    boxes = BoxArrays(run.read_annotations(BOX_COLUMNS))
    columns = {
        **threshold_signals(run, boxes),
        **_shape_signals(boxes),
        "contrast": _contrast(boxes),
        "class_margin": _class_margin(run, boxes),
        **_neighbour_signals(boxes),
        "run_agreement": np.full(len(boxes), np.nan) if agree_with is None else best_overlaps(run, boxes, agree_with),
    }
    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in SIGNAL_FIELDS]
    names = [field.name for field in SIGNAL_FIELDS]
    return pa.table([boxes.table["annotation_id"], *arrays], names=["annotation_id", *names])


def _contrast(boxes: BoxArrays) -> Floats:
    peak, mean = (column_floats(boxes.table, name) for name in ("peak", "mean_activation"))
    return np.divide(peak, mean, out=np.full(len(peak), np.nan), where=mean > 0)


# --- size, shape and place ---


def _shape_signals(boxes: BoxArrays) -> dict[str, Floats]:
    sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
    share = (sides / boxes.size).prod(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_share, log_aspect = np.log(share), np.log(sides[:, 0] / sides[:, 1])
    return {
        "border_contact": _border_contact(boxes),
        "area_share": share,
        "size_deviation": _deviation(log_share, boxes.category_id),
        "aspect_deviation": _deviation(log_aspect, boxes.category_id),
    }


def _border_contact(boxes: BoxArrays) -> Floats:
    margin = BORDER_SHARE * boxes.size
    at_start, at_end = boxes.xyxy[:, :2] <= margin, boxes.xyxy[:, 2:] >= boxes.size - margin
    return (at_start.sum(axis=1) + at_end.sum(axis=1)).astype(np.float64)


def _deviation(values: Floats, category: Ints) -> Floats:
    """Robust z-scores of (n,) values within each class; NaN for small classes and values that are not finite."""
    result = np.full(len(values), np.nan)
    order = np.argsort(category, kind="stable")
    starts = np.flatnonzero(np.diff(category[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        rows = rows[np.isfinite(values[rows])]
        if len(rows) >= MIN_CLASS_BOXES:
            centre = np.median(values[rows])
            spread = max(1.4826 * np.median(np.abs(values[rows] - centre)), MIN_SPREAD)
            result[rows] = np.clip((values[rows] - centre) / spread, -MAX_DEVIATION, MAX_DEVIATION)
    return result


# --- class ---


def _class_margin(run: Run, boxes: BoxArrays) -> Floats:
    margin = np.full(len(boxes), np.nan)
    if not run.rankings.is_file() or not len(boxes):
        return margin
    rankings = run.read_rankings()
    lists = [rankings[name].combine_chunks() for name in ("category_ids", "probabilities")]
    image = np.repeat(rankings["image_id"].to_numpy(), lists[0].value_lengths().to_numpy(zero_copy_only=False))
    ranked, probability = (column.flatten().to_numpy(zero_copy_only=False) for column in lists)
    is_other = ~_is_mined(boxes, image, ranked.astype(np.int64))
    known, row = np.unique(boxes.image_id, return_inverse=True)
    place = np.minimum(np.searchsorted(known, image), len(known) - 1)
    use = is_other & (known[place] == image)
    highest = np.full(len(known), -np.inf)
    np.maximum.at(highest, place[use], probability[use])
    value = column_floats(boxes.table, "class_score") - highest[row]
    return np.where(np.isfinite(value), value, np.nan)


def _is_mined(boxes: BoxArrays, image_id: Ints, category_id: Ints) -> Bools:
    """Whether the run has a box of each given image and class."""
    kind = np.dtype([("image", np.int64), ("category", np.int64)])
    mined, asked = np.empty(len(boxes), kind), np.empty(len(image_id), kind)
    mined["image"], mined["category"] = boxes.image_id, boxes.category_id
    asked["image"], asked["category"] = image_id, category_id
    return np.isin(asked, mined)


# --- other boxes ---


def _neighbour_signals(boxes: BoxArrays) -> dict[str, Floats | Ints]:
    image = np.unique(boxes.image_id, return_inverse=True)[1]
    xywh = np.concatenate([boxes.xyxy[:, :2], boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]], axis=1)
    one_class = np.zeros(len(boxes), np.int64)
    score = column_floats(boxes.table, "score")
    all_boxes = TruthBoxes(image, one_class, xywh)
    other_iou, number, rank = np.zeros(len(boxes)), np.zeros(len(boxes), np.int64), np.ones(len(boxes), np.int64)
    for first, second in candidate_pairs(all_boxes, Detections(image, one_class, xywh, score)):
        same = boxes.category_id[first] == boxes.category_id[second]
        iou = paired_iou(boxes.xyxy[first[~same]], boxes.xyxy[second[~same]])
        np.maximum.at(other_iou, first[~same], iou)
        np.add.at(number, first[same], 1)
        first, second = first[same], second[same]
        is_before = (score[second] > score[first]) | ((score[second] == score[first]) & (second < first))
        np.add.at(rank, first[is_before], 1)
    return {"other_class_iou": other_iou, "class_boxes": number, "class_rank": rank}


def best_overlaps(run: Run, boxes: BoxArrays, other: Run) -> Floats:
    """Compute each box's highest IoU with a box of the same image and class of another run.

    Args:
        run: The run of the n boxes.
        boxes: Its boxes.
        other: Another finished run.

    Returns:
        (n,) float64, 0-1; NaN on images that the other run did not mine.

    Raises:
        RunError: The two runs share no image.
    """
    place = shared_images(run, other)
    others = other.read_annotations(["image_id", "category", "x", "y", "w", "h"])
    names, category = _encode(boxes.table["category"])
    their_names, their_category = _encode(others["category"])
    their_class = match_classes(their_names, names)[their_category]
    ids = np.array(sorted(place), np.int64)
    image = np.array([place[number] for number in ids.tolist()], np.int64)
    their_image = others["image_id"].to_numpy()
    keep = their_class >= 0
    xywh = np.stack([column_floats(others, side) for side in "xywh"], axis=1)
    truth = TruthBoxes(their_image[keep], their_class[keep], xywh[keep])
    at = np.minimum(np.searchsorted(ids, boxes.image_id), len(ids) - 1)
    is_shared = ids[at] == boxes.image_id
    own = np.concatenate([boxes.xyxy[:, :2], boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]], axis=1)
    predicted = Detections(np.where(is_shared, image[at], -1), category, own, np.zeros(len(own)))
    return np.where(is_shared, compute_overlaps(truth, predicted).prediction_iou, np.nan)


def shared_images(run: Run, other: Run) -> dict[int, int]:
    """Return the other run's image ids by this run's, of images that both mined; files are matched by their names.

    Raises:
        RunError: There is none.
    """
    own, theirs = (one.read_corpus(["image_id", "file_name", "content_hash", "state"]) for one in (run, other))
    names = theirs["file_name"].to_pylist()
    places = match_names(own["file_name"].to_pylist(), names)
    their_ids, own_ids = theirs["image_id"].to_pylist(), own["image_id"].to_pylist()
    digests = [table["content_hash"].to_pylist() for table in (own, theirs)]
    states = theirs["state"].to_pylist()
    shared = {}
    for row, place in enumerate(places.tolist()):
        if place < 0 or states[place] == "quarantined":
            continue
        if None in (digests[0][row], digests[1][place]) or digests[0][row] == digests[1][place]:
            shared[own_ids[row]] = their_ids[place]
    if not shared:
        raise RunError(
            f"{run.path} and {other.path} have no image in common (same file name and content). Give a run of the same "
            "images."
        )
    return shared


def _encode(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Ints]:
    encoded = column.combine_chunks().dictionary_encode()
    return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
