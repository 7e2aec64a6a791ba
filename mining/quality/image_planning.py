"""Draw the images of a plan that a person is to look at whole."""

import numpy as np
import pyarrow as pa

from mining.errors import InputError
from mining.quality.image_outcomes import RunImages
from mining.quality.image_sampling import draw_images, draws_per_stratum, inclusion_probabilities, stratify_images
from mining.quality.judgements import DrawnImage
from mining.quality.verdicts import VerdictStore
from mining.runs.run import Run


def draw_whole_images(
    run: Run, boxes: pa.Table, store: VerdictStore, count: int, random: np.random.Generator
) -> tuple[int, int, list[tuple[DrawnImage, list[int]]]]:
    """Draw images of a run at random, more often those with many boxes; see `mining.quality.image_sampling`.

    Args:
        run: The run.
        boxes: Its annotations, at least annotation_id and file_name.
        store: Its verdicts, for the images that earlier plans drew.
        count: How many; fewer if the run has no more.
        random: Source of randomness.

    Returns:
        How many images earlier plans drew, how many the run has, and the drawn ones with the ids of all their boxes.

    Raises:
        InputError: All images were drawn before.
    """
    images = RunImages.read(run)
    before = images.places_of(store.drawn_images())
    if not count:
        return len(before), len(images.names), []
    if len(before) == len(images.names):
        raise InputError(
            f"All {len(before)} images of {run.path} were drawn before: look at them, and record what you saw "
            "(`boxmine audit record`)."
        )
    strata = stratify_images(images.boxes)
    wanted = draws_per_stratum(images.boxes, strata, len(before) + count)
    places = draw_images(strata, wanted, before, random)[:count]
    share = inclusion_probabilities(strata, np.concatenate([before, places]))
    ids: dict[str, list[int]] = {images.names[place]: [] for place in places}
    for number, name in zip(boxes["annotation_id"].to_pylist(), boxes["file_name"].to_pylist(), strict=True):
        if name in ids:
            ids[name].append(number)
    return (
        len(before),
        len(images.names),
        [(DrawnImage(images.names[place], float(share[place])), ids[images.names[place]]) for place in places],
    )
