"""Figures of two runs on the same images and classes of a ground truth, with paired differences over images."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mining.arrays import Bools, Ints
from mining.evaluation.bootstrap import affordable, paired_difference, percentile_interval, resample_image_counts
from mining.evaluation.metrics.hits import mean_or_none
from mining.evaluation.metrics.instance_recall import InstanceRecall
from mining.evaluation.run_matching import RunMatch, match_run
from mining.evaluation.run_reading import RunBoxes
from mining.ground_truth.reading import GroundTruth

DECISIVE = ("corloc_0.5", "instance_recall_at_1_fp")
Verdict = Literal["better", "worse", "mixed", "unclear"]


def verdict_of(figures: Mapping[str, Any]) -> Verdict:
    """Say whether the second of two runs is better.

    CorLoc says how good the best box of an image and class is, recall at one false positive per image whether further
    objects are found.

    Args:
        figures: The `truth` part of a comparison, see `mining.evaluation.run_comparison`, of one or more pairs.

    Returns:
        'better' if one of the two is clearly higher and the other one not clearly lower, 'worse' likewise, 'mixed' if
        one is clearly higher and the other one clearly lower, 'unclear' if all may be chance.
    """
    rises = {figures[name]["difference"] > 0 for name in DECISIVE if figures[name]["is_clear"]}
    if not rises:
        return "unclear"
    if len(rises) > 1:
        return "mixed"
    return "better" if rises == {True} else "worse"


def match_shared(
    whole: GroundTruth, folders: tuple[Path, Path], runs: tuple[RunBoxes, RunBoxes], unscored: Collection[str]
) -> tuple[list[RunMatch], dict[str, str]]:
    """Match both runs with the images and classes of the ground truth that both know, `unscored` left out.

    Returns:
        Both matches, of the same images in the same order; none where there is no such image or class. And the name of
        each of these images in the second run, by its name in the ground truth.
    """
    matches = [match_run(whole, run, folder) for run, folder in zip(runs, folders, strict=True)]
    names = dict(zip(runs[1].image_ids.tolist(), runs[1].file_names, strict=True))
    places = matches[1].image_positions.items()
    run_name = {matches[1].truth.file_names[place]: names[image_id] for image_id, place in places}
    in_both = run_name.keys() & set(matches[0].truth.file_names)
    images = [i for i, name in enumerate(whole.file_names) if name in in_both and run_name[name] not in unscored]
    known = set(matches[0].truth.classes) & set(matches[1].truth.classes)
    classes = [i for i, name in enumerate(whole.classes) if name in known]
    if not images or not classes:
        return [], {}
    part = whole.subset(np.array(images), np.array(classes))
    matches = [match_run(part, run, folder) for run, folder in zip(runs, folders, strict=True)]
    return matches, {name: run_name[name] for name in part.file_names}


def recall_difference(matches: list[RunMatch], images: int, seed: int, resamples: int) -> dict[str, Any]:
    """Return the recall of true boxes at one false positive per image of both runs, and the paired difference.

    Args:
        matches: Both runs, of the same images in the same order, see `match_shared`; some true box counts.
        images: Number of these images.
        seed: Seed of the bootstrap over images.
        resamples: Number of resamples, fewer for very many boxes, see `affordable`.
    """
    recalls = [InstanceRecall(match.truth.boxes, match.predicted) for match in matches]
    first, second = (recall.at(images) for recall in recalls)
    assert first is not None  # a true box counts, or there would be no pair
    assert second is not None
    differences = []
    number = affordable(resamples, sum(len(match.predicted) for match in matches))
    for counts in resample_image_counts(images, seed=seed, resamples=number):
        for times in counts:
            before, after = (recall.at(images, times=times) for recall in recalls)
            if before is not None and after is not None:
                differences.append(after - before)
    low, high = percentile_interval(np.array(differences or [0.0]))
    return {
        "first": first, "second": second, "difference": second - first, "ci95": [low, high],
        "is_clear": low > 0 or high < 0,
    }  # fmt: skip


def hit_difference(image: Ints, first: Bools, second: Bools, seed: int, resamples: int) -> dict[str, Any]:
    """Return the share of correct pairs of both runs, and the paired difference.

    Args:
        image: (P,) image of each pair.
        first: (P,) whether the first run's best box of the pair is correct.
        second: (P,) the same of the second run.
        seed: Seed of the bootstrap over images.
        resamples: Number of resamples.
    """
    paired = paired_difference(
        image, first.astype(np.float64), second.astype(np.float64), seed=seed, resamples=resamples
    )
    return {
        "first": mean_or_none(first),
        "second": mean_or_none(second),
        "difference": paired.value,
        "ci95": list(paired.ci95),
        "is_clear": paired.is_clear,
        "better": int((second & ~first).sum()),
        "worse": int((first & ~second).sum()),
    }
