"""Rounds of self-training: a detector learns from the boxes of the last round, and boxes the same images again.

With ground truth, or with verdicts of people on a random draw of both runs, a round is kept if its boxes are better
than those before by more than chance; the first one that is not is the last. Without, nobody knows, so there is one
round, and a person compares.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from mining.bootstrap.verdict_comparison import compare_by_verdicts
from mining.config import DetectorSettings
from mining.config.bootstrap import BootstrapSettings
from mining.corpus import iter_shards
from mining.corpus.listing import write_unlabelled_listing
from mining.corpus.scanner import scan_from_settings
from mining.corpus.schema import CORPUS_FILE
from mining.evaluation.run_comparison import compare_runs
from mining.evaluation.taught_images import taught_images
from mining.experiments.retraining import decide
from mining.ground_truth.check import read_checked_boxes
from mining.ground_truth.sources import digest_of
from mining.models.card import PRETRAINED, read_card
from mining.runs.run import Run
from mining.storage.files import write_json
from mining.storage.locks import lock_folder
from mining.storage.ownership import delete_temporaries, mark_folder, unmark_folder
from mining.storage.provenance import package_versions, utc_now

RECORD_FILE = "bootstrap.json"
FORMAT = "boxmine-bootstrap/1"


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        number: From 1 on.
        detector: Model folder of the detector.
        run: Run directory that was mined with it.
        learned_from: Number of boxes that the detector learned from.
        boxes: Number of boxes of the run.
        is_better: Whether its boxes are better than those of the last kept run; None where that is not known.
        reason: The figures behind that.
        judged_by: 'ground truth' or 'verdicts'; None where there was neither.
    """

    number: int
    detector: Path
    run: Path
    learned_from: int
    boxes: int
    is_better: bool | None
    reason: str
    judged_by: Literal["ground truth", "verdicts"] | None


@dataclass(frozen=True)
class BootstrapResult:
    """The result of a bootstrap.

    Attributes:
        run: The run whose boxes are the best known.
        detector: The detector that made them; None if they are the localizer's.
        rounds: All rounds.
        reason: Why there are no more.
        warnings: Sentences about what the detectors learned from, those of the localizer's training included.
    """

    run: Path
    detector: Path | None
    rounds: list[Round]
    reason: str
    warnings: list[str] = field(default_factory=list)


def train_on_run(
    settings: BootstrapSettings, number: int, progress: Callable[[int, int, str], None] = lambda done, total, text: None
) -> int:
    """Train the detector of a round on the boxes of the round before, unless it is trained.

    Args:
        settings: The recipe.
        number: Number of the round, from 1 on.
        progress: Called after each step with steps done, steps planned and a text.

    Returns:
        The number of boxes that it learned from.

    Raises:
        InputError: There is no box to learn from.
        ModelError: The detector cannot be trained with these settings.
    """
    from mining.bootstrap.class_agnostic import as_one_class
    from mining.bootstrap.detector_warnings import warn_of_few_boxes, warnings_of_localizer
    from mining.bootstrap.training_boxes import boxes_of_run
    from mining.bootstrap.true_boxes import read_true_boxes, replace_boxes
    from mining.detection.training import train_detector

    run = Run.open(settings.run_of(number - 1), finished=True)
    found, taught = boxes_of_run(run), None
    if settings.boxes is not None:
        read_checked_boxes(settings.boxes, run.image_root, _file_names(run), run.card.class_names)
        true = read_true_boxes(run, settings.boxes)
        found = replace_boxes(found, true.images)
        hashes = sorted(image.content_hash for image in true.images if image.content_hash is not None)
        taught = {"sha256": digest_of(settings.boxes), "images": hashes}
    if settings.class_agnostic:
        found = as_one_class(found)
    detector = DetectorSettings(**dict(settings.detector))
    train_detector(
        detector, found.images, found.classes, settings.detector_of(number), progress, true_boxes=taught,
        warnings=[*warnings_of_localizer(run), *warn_of_few_boxes(found)],
    )  # fmt: skip
    if settings.class_agnostic:
        write_unlabelled_listing(_file_names(run), settings.image_list)
    return found.boxes


def check_boxes(settings: BootstrapSettings) -> None:
    """Check the true boxes that the recipe gives before anything is trained.

    Raises:
        ScoringError: Some of them cannot be learned from, see `read_checked_boxes`.
        CorpusError: The images or their labels cannot be used.
    """
    if settings.boxes is None:
        return
    corpus = settings.corpus
    with TemporaryDirectory(prefix="boxmine-") as folder:
        table = Path(folder) / CORPUS_FILE
        classes = list(scan_from_settings(corpus, table, corpus.labels).classes)
        names = [name for shard in iter_shards(table) for name in shard["file_name"].to_pylist()]
    if settings.model is not None and not settings.model.startswith(PRETRAINED):
        classes = read_card(Path(settings.model)).class_names
    if settings.mine.classes or settings.mine.map:  # the run has others, see `train_on_run`
        classes = []
    read_checked_boxes(settings.boxes, corpus.images, names, classes)


def _file_names(run: Run) -> list[str]:
    return [str(name) for name in run.read_corpus(["file_name"])["file_name"].to_pylist()]


def fuse_round(settings: BootstrapSettings, number: int) -> None:
    """Combine the boxes of a round's detector with those that it learned from, if the recipe says so.

    Raises:
        RunError: A table is missing or damaged, or the round's folder holds another run.
    """
    if settings.fuse:
        from mining.fusion.detector_fusion import fuse_with_detector

        before, detected = settings.run_of(number - 1), settings.detected_by(number)
        fuse_with_detector(Run.open(before, finished=True), Run.open(detected, finished=True), settings.run_of(number))


def judge_round(settings: BootstrapSettings, number: int, learned_from: int) -> Round:
    """Compare the run of a round with that of the round before, by the recipe's ground truth, or else by verdicts.

    Images whose true boxes the detector learned from are not compared with the ground truth.
    """
    before, after = settings.run_of(number - 1), settings.run_of(number)
    detector, boxes = settings.detector_of(number), int(Run(after).record["counts"]["boxes"])
    if settings.truth is None:
        said = compare_by_verdicts(Run.open(before, finished=True), Run.open(after, finished=True))
        if said is not None:
            return Round(number, detector, after, learned_from, boxes, said.is_better, said.text, "verdicts")
    taught = taught_images(after)
    is_better, reason = decide(compare_runs(before, after, settings.truth, unscored=taught).summary)
    if taught and settings.truth is not None:
        reason += f" Not counted: the {len(taught)} images whose true boxes the detector learned from."
    judged_by: Literal["ground truth"] | None = None if settings.truth is None else "ground truth"
    return Round(number, detector, after, learned_from, boxes, is_better, reason, judged_by)


def conclude(settings: BootstrapSettings, rounds: list[Round]) -> BootstrapResult | None:
    """Return the result if there is to be no further round, and write it to RECORD_FILE; None if there is.

    Args:
        settings: The recipe.
        rounds: The rounds so far, at least one.

    Raises:
        RunError: Another process is writing the result.
    """
    last = rounds[-1]
    if last.is_better and last.number < settings.rounds:
        return None
    if last.is_better:
        reason = f"All {settings.rounds} rounds were better than the one before."
    elif last.judged_by is None:
        before = settings.run_of(last.number - 1)
        reason = (
            f"Nobody knows whether these boxes are better than those before. Look at both: `boxmine audit {last.run} "
            f"--against {before}`. Or judge a sample of each (`boxmine audit plan {before} --out before.csv`, `boxmine "
            f"audit plan {last.run} --out after.csv`), and run this command again, which compares the verdicts."
        )
    else:
        reason = f"Round {last.number} is not clearly better than the one before."
    is_kept = last.is_better or last.judged_by is None
    kept = last.number if is_kept else last.number - 1
    warnings = [sentence for one in rounds for sentence in read_card(one.detector).warnings]
    result = BootstrapResult(
        settings.run_of(kept), settings.detector_of(kept) if kept else None, rounds, reason,
        list(dict.fromkeys(warnings)),
    )  # fmt: skip
    _write_record(settings, result)
    return result


def _write_record(settings: BootstrapSettings, result: BootstrapResult) -> None:
    """Write the record; what a process that was killed here left half written is deleted."""
    with lock_folder(settings.out):
        mark_folder(settings.out, "bootstrap")
        delete_temporaries(settings.out)
        write_json(settings.out / RECORD_FILE, _record(settings, result))
        unmark_folder(settings.out)


def _record(settings: BootstrapSettings, result: BootstrapResult) -> dict[str, Any]:
    def relative(path: Path | None) -> str | None:
        return None if path is None else path.name

    return {
        "format": FORMAT, "at": utc_now(), "versions": package_versions(),
        "settings": settings.model_dump(mode="json"), "run": relative(result.run),
        "detector": relative(result.detector), "reason": result.reason,
        "warnings": result.warnings,
        "rounds": [
            {**asdict(one), "detector": relative(one.detector), "run": relative(one.run)} for one in result.rounds
        ],
    }  # fmt: skip
