"""Match a ground truth with a run: which images, classes and boxes can be scored, and notes on the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mining.arrays import Floats, Ints
from mining.errors import ScoringError, did_you_mean
from mining.evaluation.boxes import Detections, TruthBoxes
from mining.evaluation.run_reading import RunBoxes, match_images
from mining.ground_truth.box_formats import WrittenBoxes, check_box_format
from mining.ground_truth.matching import match_classes, match_names
from mining.ground_truth.reading import GroundTruth, is_outside


@dataclass(frozen=True)
class RunMatch:
    """A ground truth reduced to what a run can be scored on, and the run's boxes in its numbering.

    Attributes:
        truth: Images and classes that both have; its sizes are those of the decoded images where known.
        predicted: The run's boxes that can be scored.
        image_positions: Position in the ground truth by the run's image id.
        class_positions: Position in the ground truth by the run's category id.
        notes: One sentence for each kind of thing that is not scored.
    """

    truth: GroundTruth
    predicted: Detections
    image_positions: dict[int, int]
    class_positions: dict[int, int]
    notes: list[str]


def match_run(whole: GroundTruth, run: RunBoxes, run_dir: Path) -> RunMatch:
    """Match images by file name and classes by name.

    Args:
        whole: The ground truth as read.
        run: The run's boxes.
        run_dir: Run directory, for messages and for the folder of its images.

    Returns:
        What both have in common.

    Raises:
        ScoringError: They share no image or no class, or the true boxes are not x, y, width, height in pixels.
    """
    matched = match_images(whole, run.file_names, run_dir)
    images = np.flatnonzero(matched.position >= 0)
    if not len(images):
        raise ScoringError(" ".join([_no_shared_image(whole, run, run_dir), *matched.notes]))
    classes, class_notes = _shared_classes(whole, run)
    corpus_row = matched.position[images]
    truth, size_notes = _use_decoded_sizes(whole.subset(images, classes), run.sizes[corpus_row])
    predicted, box_notes = _scorable_boxes(truth, run, corpus_row)
    image_positions = {int(image_id): place for place, image_id in enumerate(run.image_ids[corpus_row])}
    model_classes = run.classes or {}
    places = match_classes(tuple(model_classes.values()), truth.classes).tolist()
    class_positions = {number: place for number, place in zip(model_classes, places, strict=True) if place >= 0}
    notes = [
        *_image_notes(len(whole.file_names), len(run.file_names), len(images)),
        *whole.notes,
        *matched.notes,
        *class_notes,
        *size_notes,
        *_note_on_ignored(truth.boxes),
        *box_notes,
    ]
    return RunMatch(truth, predicted, image_positions, class_positions, notes)


def _no_shared_image(whole: GroundTruth, run: RunBoxes, run_dir: Path) -> str:
    theirs = f"the corpus names {run.file_names[0]!r}" if run.file_names else "the corpus is empty"
    return (
        f"No image of {whole.file} is in the corpus of {run_dir}: the truth names {whole.file_names[0]!r}, {theirs}. "
        "Pass the ground truth of these images; file names must agree, or one path must end in the other."
    )


def _shared_classes(whole: GroundTruth, run: RunBoxes) -> tuple[Ints, list[str]]:
    """Positions of the truth's classes that the run can name, and a note on the others; ScoringError for none."""
    names = run.box_classes if run.classes is None else tuple(run.classes.values())
    known = match_classes(whole.classes, names) >= 0
    unknown = [whole.classes[i] for i in np.flatnonzero(~known)]
    if names and not known.any():
        raise ScoringError(
            f"No class of {whole.file} is a class of the run; rename the truth's categories to the run's names. "
            f"The truth has {unknown[0]!r}: {did_you_mean(unknown[0], names)}"
        )
    if run.classes is None:
        return np.arange(len(whole.classes)), ["The run has no model/model.json: every class of the truth is scored."]
    boxes = int((~known)[whole.boxes.category].sum())
    verb = "is" if len(unknown) == 1 else "are"
    note = f"The truth's {_format_classes(unknown)} ({boxes} boxes) {verb} unknown to the run's model; left out."
    return np.flatnonzero(known), [note, *_case_notes(unknown, names)] if unknown else []


def _scorable_boxes(truth: GroundTruth, run: RunBoxes, corpus_row: Ints) -> tuple[Detections, list[str]]:
    """The run's boxes that can be scored, and a note for each kind of box that cannot."""
    image_of_row = np.full(len(run.file_names) + 1, -1, np.int64)
    image_of_row[corpus_row] = np.arange(len(corpus_row))
    image = image_of_row[match_names(run.box_files, run.file_names)][run.box_file]
    category = match_classes(run.box_classes, truth.classes)[run.box_class]
    is_box = np.isfinite(run.xywh).all(axis=1) & (run.xywh[:, 2:] > 0).all(axis=1) & np.isfinite(run.scores)
    no_image, no_class = image < 0, (image >= 0) & (category < 0)
    keep = ~no_image & ~no_class & is_box
    unknown = sorted({run.box_classes[i] for i in np.unique(run.box_class[no_class])})
    reasons = [
        (no_image, "are on images that are not in the truth"),
        (no_class, f"are of {_format_classes(unknown)} that the truth and the run do not share"),
        (~no_image & ~no_class & ~is_box, "have no area or no finite score"),
    ]
    notes = [
        f"{int(flags.sum())} of {len(keep)} predicted boxes {why}; left out." for flags, why in reasons if flags.any()
    ]
    return Detections(image[keep], category[keep], run.xywh[keep], run.scores[keep]), notes


def _image_notes(truth: int, corpus: int, scored: int) -> list[str]:
    notes = [f"{scored} of the truth's {truth} images ({scored / truth:.1%}) are in the run's corpus, and are scored."]
    if corpus > scored:
        notes.append(f"{corpus - scored} of the corpus' {corpus} images are not in the truth, and are not scored.")
    return notes


def _case_notes(unknown: list[str], names: Sequence[str]) -> list[str]:
    """A hint on classes that the run knows in other letter case."""
    known = {name.casefold(): name for name in names}
    alike = [f"{name!r} (the run has {known[name.casefold()]!r})" for name in unknown if name.casefold() in known]
    if not alike:
        return []
    return [f"Class names that differ only in upper and lower case: {', '.join(alike[:5])}; rename to score them."]


def _note_on_ignored(boxes: TruthBoxes) -> list[str]:
    number = int(boxes.is_ignored.sum())
    if not number:
        return []
    return [f"{number} of {len(boxes)} true boxes are marked difficult, ignore or crowd and count neither way."]


def _use_decoded_sizes(truth: GroundTruth, decoded: Floats) -> tuple[GroundTruth, list[str]]:
    """The truth with the sizes of the decoded images, (N, 2), without boxes that lie outside of them; and notes."""
    sizes = np.where(np.isfinite(decoded), decoded, truth.sizes)
    boxes = truth.boxes
    of_boxes = sizes[boxes.image]
    check_box_format(truth.file, WrittenBoxes(boxes.xywh, of_boxes))
    outside = is_outside(boxes.xywh, of_boxes)
    notes = _size_notes(truth, decoded, sizes)
    if outside.any():
        first = truth.file_names[boxes.image[outside][0]]
        notes.append(
            f"{int(outside.sum())} of {len(boxes)} true boxes lie wholly outside of their decoded image, first in "
            f"{first!r}; left out."
        )
    return replace(truth, sizes=sizes, boxes=boxes.where(~outside)), notes


def _size_notes(truth: GroundTruth, corpus_sizes: Floats, sizes: Floats) -> list[str]:
    notes = []
    is_turned = (truth.sizes[:, ::-1] == corpus_sizes).all(axis=1) & (truth.sizes[:, 0] != truth.sizes[:, 1])
    if is_turned.any():
        notes.append(
            f"{int(is_turned.sum())} images have width and height swapped in the truth, first "
            f"{truth.file_names[np.flatnonzero(is_turned)[0]]!r}: the decoded images decide which boxes lie outside."
        )
    differs = np.flatnonzero((np.abs(truth.sizes - corpus_sizes) > 0.5).any(axis=1) & ~is_turned)
    if len(differs):
        i = differs[0]
        theirs, ours = ("{:g} x {:g}".format(*size[i]) for size in (truth.sizes, corpus_sizes))
        notes.append(
            f"{len(differs)} images have another size in the truth than in the corpus (e.g. {truth.file_names[i]!r}: "
            f"{theirs} against {ours} px); their boxes are compared unscaled, which cannot be right."
        )
    unknown = int((~np.isfinite(sizes)).any(axis=1).sum())
    if unknown:
        notes.append(f"{unknown} images have no size in truth or corpus; the baselines leave them out.")
    return notes


def _format_classes(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"class{'' if len(names) == 1 else 'es'} {shown}{more}"
