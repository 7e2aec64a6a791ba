"""The steps of a proof: train a detector, and when all have mined the test images, compare them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from mining.bootstrap.detector_warnings import warnings_of_localizer
from mining.bootstrap.training_boxes import boxes_of_run
from mining.bootstrap.true_boxes import read_true_boxes
from mining.config.proof import ProofSettings
from mining.evaluation.taught_images import has_seen_coco, note_on_coco
from mining.ground_truth.reading import read_ground_truth
from mining.proof.figures import Estimate, Precision, Resamples, difference, estimate, read_test_boxes, share
from mining.proof.folder import RECORD_FILE, detector_of, list_test_images, test_run_of
from mining.proof.trainings import (
    ALONE,
    WITH_MINED,
    Training,
    plan_trainings,
    refuse_larger_budget,
    training_set,
)
from mining.proof.worth import BudgetPoint, Worth, budget_point, worth_of
from mining.runs.run import Run
from mining.storage.files import write_json
from mining.storage.provenance import package_versions, utc_now

FORMAT = "boxmine-proof/1"
_BLIND = ("centred", "whole")


@dataclass(frozen=True)
class ProofResult:
    """What a proof found; average precisions in [0, 1].

    Attributes:
        ap50: PASCAL VOC's average precision at IoU 0.5 of each arm's detectors.
        ap: COCO's of the same.
        share_of_true: AP50 of each arm as a share of that from true boxes; empty without true boxes.
        over_blind: How much higher the AP50 of the mined boxes is than that of each kind of boxes that does not look at
            the image.
        budget: The label budget, by number of true boxes.
        worth: How many true boxes the mined ones are worth; None without a budget.
        boxes: Number of boxes that each arm's detectors learned from, of the first seed.
        images: Number of test images.
        seeds: Number of seeds.
        notes: Sentences on what was left out.
    """

    ap50: dict[str, Estimate]
    ap: dict[str, Estimate]
    share_of_true: dict[str, Estimate]
    over_blind: dict[str, Estimate]
    budget: list[BudgetPoint]
    worth: Worth | None
    boxes: dict[str, int]
    images: int
    seeds: int
    notes: list[str] = field(default_factory=list)


def plan(settings: ProofSettings) -> list[Training]:
    """Return all trainings, after checking that each has boxes to learn from and that the test images exist.

    Raises:
        InputError: There are fewer true boxes than `budget` asks for, or the test images are missing.
        ScoringError: A ground truth cannot be used.
        RunError: A run is not finished, or a table of it is damaged.
    """
    list_test_images(settings)
    for path in dict.fromkeys(settings.runs):
        run = Run.open(path, finished=True)
        boxes_of_run(run)
        if settings.truth is not None:
            refuse_larger_budget(settings, read_true_boxes(run, settings.truth).boxes)
    return plan_trainings(settings)


def train_on_boxes(
    settings: ProofSettings,
    training: Training,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> int:
    """Train the detector of a training, unless it is trained; returns the number of boxes that it learned from.

    Raises:
        InputError: There is no box to learn from, or there are fewer true boxes than asked for.
        ModelError: The detector cannot be trained with these settings.
    """
    from mining.detection.training import train_detector

    wanted = training_set(settings, training)
    folder = detector_of(settings, training)
    train_detector(
        wanted.settings, wanted.found.images, wanted.found.classes, folder, progress, warnings=wanted.warnings
    )  # fmt: skip
    return wanted.found.boxes


def conclude(settings: ProofSettings, boxes: dict[Training, int]) -> ProofResult:
    """Compare the detectors by their boxes on the test images; the figures are written to RECORD_FILE.

    Args:
        settings: The recipe.
        boxes: Number of boxes that each training learned from.

    Raises:
        ScoringError: The ground truth of the test images cannot be used.
        RunError: A run of the test images is damaged.
    """
    trainings = plan_trainings(settings)
    measured, notes, images = _measure(settings, trainings)
    arms = {
        arm: {one.seed: measured[one] for one in trainings if one.boxes == arm and one.true_boxes is None}
        for arm in settings.own_arms
    }
    true, mined = arms.get("true"), arms.get("mined")
    points, curve = [], []
    for number in settings.budget if settings.truth is not None else ():
        alone, both = (
            {one.seed: measured[one] for one in trainings if (one.boxes, one.true_boxes) == (kind, number)}
            for kind in (ALONE, WITH_MINED)
        )
        points.append(budget_point(number, alone, both))
        curve.append((number, alone))
    if true:
        curve.append((boxes[Training("true", settings.seeds[0])], true))
    runs = [Run.open(path, finished=True) for path in settings.runs]
    of_localizer = dict.fromkeys(sentence for run in runs for sentence in warnings_of_localizer(run))
    curve.sort(key=lambda one: one[0])
    result = ProofResult(
        ap50={arm: estimate(list(of.values())) for arm, of in arms.items()},
        ap={arm: estimate(list(of.values()), "ap") for arm, of in arms.items()},
        share_of_true={arm: share(true, of) for arm, of in arms.items() if arm != "true"} if true else {},
        over_blind={arm: difference(of, mined) for arm, of in arms.items() if arm in _BLIND} if mined else {},
        budget=sorted(points, key=lambda one: one.true_boxes),
        worth=worth_of(mined, curve) if mined and len(curve) > 1 else None,
        boxes={one.boxes: boxes[one] for one in trainings if one.seed == settings.seeds[0] and one.true_boxes is None},
        images=images,
        seeds=len(settings.seeds),
        notes=[*notes, *of_localizer] if mined else notes,
    )
    write_json(settings.out / RECORD_FILE, _record(settings, result))
    return result


def _measure(settings: ProofSettings, trainings: list[Training]) -> tuple[dict[Training, Precision], list[str], int]:
    """Precision of each training's detector, notes, and the number of test images."""
    whole = read_ground_truth(settings.test.truth)
    measured: dict[Training, Precision] = {}
    notes: list[str] = []
    resamples: Resamples | None = None
    for one in trainings:
        run = Run(test_run_of(settings, one))
        truth, predicted, own_notes = read_test_boxes(run.path, whole)
        resamples = resamples or Resamples(len(truth.file_names), settings.resamples)
        measured[one] = resamples.measure(truth.boxes, predicted)
        notes = list(dict.fromkeys([*notes, *own_notes, *note_on_coco(has_seen_coco(run))]))
    assert resamples is not None  # there is at least one arm
    return measured, notes, resamples.counts.shape[1]


def _record(settings: ProofSettings, result: ProofResult) -> dict[str, Any]:
    return {
        "format": FORMAT, "at": utc_now(), "versions": package_versions(),
        # without the seed that `seeds` takes the place of, so that it is a recipe
        "settings": settings.model_dump(mode="json", exclude={"detector": {"seed"}}), **asdict(result),
    }  # fmt: skip
