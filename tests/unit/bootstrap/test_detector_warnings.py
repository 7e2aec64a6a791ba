"""What a detector is warned of: its localizer's labels, and classes of few boxes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mining.bootstrap.detector_warnings import FEW_BOXES, OF_LOCALIZER, warn_of_few_boxes, warnings_of_localizer
from mining.bootstrap.training_boxes import boxes_of_run
from mining.runs.run import Run
from tests.unit.proof.conftest import DOG, make_corpus

LABELS = "All 8 labelled images show 'dog' (on 8): nothing in the labels distinguishes it from the background."


def warned(run: Path, *sentences: str) -> Run:
    """The run, its model's training with warnings."""
    card = run / "model" / "model.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "training": {"warnings": list(sentences)}}))
    return Run.open(run, finished=True)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "train").run


def test_warnings_of_the_localizer_are_marked_as_its_own(run: Path) -> None:
    assert warnings_of_localizer(Run.open(run, finished=True)) == []
    assert warnings_of_localizer(warned(run, LABELS)) == [f"{OF_LOCALIZER}{LABELS}"]


def test_warnings_of_a_detector_that_the_boxes_are_from_are_passed_on_without_its_own(run: Path) -> None:
    (few,) = warn_of_few_boxes(boxes_of_run(Run.open(run, finished=True)))
    assert warnings_of_localizer(warned(run, f"{OF_LOCALIZER}{LABELS}", few)) == [f"{OF_LOCALIZER}{LABELS}"]


def test_classes_of_few_boxes_are_named_with_their_numbers_the_rarest_first(run: Path) -> None:
    found = boxes_of_run(Run.open(run, finished=True))
    only_dogs = [replace(image, weights=image.weights * (image.classes == 0)) for image in found.images]
    (sentence,) = warn_of_few_boxes(replace(found, images=only_dogs))
    assert sentence.startswith("The detector learned from few boxes of 'cat & <mouse>' (0), 'dog' (4): ")
    assert f"for {FEW_BOXES} boxes of each class or more" in sentence


def test_as_many_boxes_as_the_limit_are_enough(run: Path) -> None:
    found = boxes_of_run(Run.open(run, finished=True))
    many = [
        replace(image, boxes=np.repeat(image.boxes, 3, 0), classes=np.repeat(image.classes, 3), weights=np.ones(3))
        for image in found.images
    ]
    assert DOG in {entry["id"] for entry in found.classes}
    assert warn_of_few_boxes(replace(found, images=many)) == []
