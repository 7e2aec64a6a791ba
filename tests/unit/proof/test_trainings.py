"""The trainings of a proof: what each learns from, and for how long."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mining.config.proof import ProofSettings
from mining.errors import InputError
from mining.proof.trainings import Training, plan_trainings, training_set
from tests.unit.proof.conftest import TRUE_BOX, Corpus

X, Y, W, H = TRUE_BOX
TRUE_XYXY = [X, Y, X + W, Y + H]


def settings_of(corpus: Corpus, **changes: Any) -> ProofSettings:
    values = {
        "out": corpus.run.parent / "proof", "runs": [corpus.run], "truth": corpus.truth,
        "test": {"images": corpus.images, "truth": corpus.truth}, "detector": {"epochs": 4, "batch_size": 2},
        "budget": (2, 4), "seeds": (0,), "verdicts": 8,
    }  # fmt: skip
    return ProofSettings(**{**values, **changes})


def boxes_of(settings: ProofSettings, training: Training) -> dict[str, list[list[float]]]:
    images = training_set(settings, training).found.images
    return {image.path.name: image.boxes.tolist() for image in images}


def test_all_arms_of_a_seed_come_before_the_next_seed(corpus: Corpus) -> None:
    names = [one.name for one in plan_trainings(settings_of(corpus, seeds=(3, 1), arms=("true", "mined"), budget=(2,)))]
    assert names == [
        "true-seed-3", "mined-seed-3", "true-2-seed-3", "mined+true-2-seed-3",
        "true-seed-1", "mined-seed-1", "true-2-seed-1", "mined+true-2-seed-1",
    ]  # fmt: skip


def test_each_arm_has_its_boxes(corpus: Corpus) -> None:
    settings = settings_of(corpus)
    assert list(boxes_of(settings, Training("true", 0)).values()) == [[TRUE_XYXY]] * 8
    mined = boxes_of(settings, Training("mined", 0))
    assert mined["03.png"] == [[X + 9, Y, X + 9 + W, Y + H]]
    assert boxes_of(settings, Training("audited", 0))["03.png"] == [TRUE_XYXY]
    assert boxes_of(settings, Training("whole", 0))["03.png"] == [[0, 0, 60, 40]]
    (centred,) = boxes_of(settings, Training("centred", 0))["03.png"]
    x0, y0, x1, y1 = centred
    assert (x1 - x0) * (y1 - y0) == pytest.approx(60 * 40 / 2)
    assert (x0 + x1, y0 + y1) == pytest.approx((60, 40))
    assert (x1 - x0) / (y1 - y0) == pytest.approx(60 / 40)


def test_a_number_of_true_boxes_is_drawn_as_whole_images_and_the_others_keep_the_mined_boxes(corpus: Corpus) -> None:
    settings = settings_of(corpus)
    alone = boxes_of(settings, Training("true", 0, 2))
    both = boxes_of(settings, Training("mined+true", 0, 2))
    mined = boxes_of(settings, Training("mined", 0))
    assert len(alone) == 2
    assert both == {**mined, **alone}
    assert alone.items() <= boxes_of(settings, Training("true", 0, 4)).items(), "further boxes are further images"
    others = {
        tuple(sorted(boxes_of(settings_of(corpus, seeds=(seed,)), Training("true", seed, 2)))) for seed in range(5)
    }
    assert len(others) > 1, "each seed draws other images"


def test_fewer_images_are_seen_more_often(corpus: Corpus) -> None:
    settings = settings_of(corpus)  # 8 images in batches of 2, 4 epochs: 16 steps
    assert training_set(settings, Training("mined", 0)).settings.epochs == 4
    assert training_set(settings, Training("true", 0, 2)).settings.epochs == 16
    assert training_set(settings, Training("true", 0, 4)).settings.epochs == 8
    assert training_set(settings, Training("mined+true", 0, 4)).settings.epochs == 4


def test_a_review_of_another_number_of_verdicts_is_another_review(corpus: Corpus) -> None:
    few = boxes_of(settings_of(corpus, verdicts=1), Training("audited", 0))
    assert boxes_of(settings_of(corpus, verdicts=8), Training("audited", 0)) != few
    assert boxes_of(settings_of(corpus, verdicts=1), Training("audited", 0)) == few


def test_a_seed_has_its_run(tmp_path: Path, corpus: Corpus) -> None:
    from tests.unit.proof.conftest import make_corpus

    other = make_corpus(tmp_path / "other", 4)
    settings = settings_of(corpus, runs=(corpus.run, other.run), seeds=(5, 6), truth=None)
    assert [len(boxes_of(settings, Training("mined", seed))) for seed in (5, 6)] == [8, 4]
    assert training_set(settings, Training("mined", 6)).settings.seed == 6


def test_more_true_boxes_than_there_are_cannot_be_drawn(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="has 8 boxes on images of the run, fewer than `budget` asks for: omit 9"):
        training_set(settings_of(corpus, budget=(4, 9)), Training("true", 0, 9))


def test_unlabelled_images_have_a_blind_box_of_each_class_that_was_mined(tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.unit.export.conftest import Painted, write_run
    from tests.unit.proof.conftest import Corpus, mined_images, write_truth

    images = [
        *(replace(one, labels=None) for one in mined_images(2)),
        Painted("none.png"),
        Painted("empty.png", labels=()),
    ]
    written = write_run(tmp_path, images)
    corpus = Corpus(written.folder, written.images, write_truth(tmp_path / "t.json", images[:2]))
    found = training_set(settings_of(corpus), Training("whole", 0)).found
    assert [(one.path.name, one.classes.tolist()) for one in found.images] == [
        ("00.png", [0]),
        ("01.png", [1]),
        ("empty.png", []),
    ]
    assert np.isfinite(found.images[0].boxes).all()
