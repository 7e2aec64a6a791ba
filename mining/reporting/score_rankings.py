"""Which images the rankings by score may hold, found without looking at boxes one by one."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mining.arrays import Floats, Ints
from mining.models.card import IMPORTED
from mining.reporting.statistics import column_floats, iter_whole_images

BEST, DOUBTFUL, WORST = "best", "doubtful", "worst"
UNSURE = ("prediction", IMPORTED)  # sources of boxes whose class nobody gave
_COLUMNS = ["image_id", "category", "score", "class_score", "source"]


def top_by_score(annotations: Path, classes: list[str], size: int, class_cut: float) -> set[int]:
    """Find the images that rankings by score may hold.

    Args:
        annotations: annotations.parquet of the run.
        classes: Classes to rank.
        size: Pairs in each ranking.
        class_cut: Probability from which predicted classes were mined.

    Returns:
        Their image_ids: those of the `size` pairs with the highest keys of each class and ranking, of equal keys the
        earlier ones.
    """
    kept: dict[tuple[str, str], tuple[Floats, Ints]] = {}
    for table in iter_whole_images(annotations, _COLUMNS):
        names, code, image, keys = _rank_pairs(table, class_cut)
        for number, name in enumerate(names):
            if name not in classes:
                continue
            pairs = code == number
            for kind, key in keys.items():
                before, images = kept.get((name, kind), (np.empty(0), np.empty(0, np.int64)))
                every, images = np.append(before, key[pairs]), np.append(images, image[pairs])
                top = np.argsort(-every, kind="stable")[:size]
                kept[name, kind] = every[top], images[top]
    return {image for _, images in kept.values() for image in images.tolist()}


def _rank_pairs(table: pa.Table, class_cut: float) -> tuple[list[str], Ints, Ints, dict[str, Floats]]:
    """Class names; and of each pair the place of its class among them, its image_id, and its key in each ranking."""
    encoded = table["category"].combine_chunks().dictionary_encode()
    code, image = encoded.indices.to_numpy(), table["image_id"].to_numpy()
    score = column_floats(table, "score")
    place = np.cumsum(np.append(False, image[1:] != image[:-1]))
    order = np.lexsort((-score, code, place))  # an image's boxes of a class together, best first
    is_first = np.append(True, (np.diff(place[order]) != 0) | (np.diff(code[order]) != 0))
    first = np.flatnonzero(is_first)
    best, second = order[first], order[np.minimum(first + 1, len(order) - 1)]
    has_second = np.append(~is_first[1:], False)[first]
    class_score = column_floats(table, "class_score")[best]
    probability = np.where(np.isnan(class_score), score[best], class_score)
    is_given = ~pc.is_in(table["source"], value_set=pa.array(UNSURE)).to_numpy()[best]
    rival = score[second] / np.maximum(score[best], 1e-9)
    doubt = np.where(has_second, rival, -np.abs(probability - class_cut) - is_given)
    keys = {BEST: score[best], DOUBTFUL: doubt, WORST: -score[best]}
    return encoded.dictionary.to_pylist(), code[best], image[best], keys
