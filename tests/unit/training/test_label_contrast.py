"""Labels from which a classifier cannot learn what a class looks like."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mining.errors import CorpusError
from mining.training import job as training_job
from mining.training.history import read_history
from mining.training.label_contrast import contrast_notes, has_contrast, refuse_no_contrast
from mining.training.module import classification_metric
from tests.factories import register_tiny_backbone
from tests.unit.training.test_training import named, settings_for, train

ALWAYS, OFTEN = ("leaf", "root"), ("leaf",)


def targets(*rows: tuple[tuple[int, ...], int]) -> np.ndarray:
    """Repeat each row."""
    return np.array([row for row, count in rows for _ in range(count)], np.float32)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([((1, 1), 20)], [False, False]),
        ([((1, 0), 20), ((0, 1), 20)], [True, True]),
        ([((1, 0), 94), ((1, 1), 1), ((0, 0), 5)], [False, True]),
        ([((1, 0), 93), ((1, 1), 1), ((0, 0), 6)], [True, True]),
        ([((1, 1), 11), ((0, 1), 1)], [False, False]),
        ([((1, 0), 1), ((0, 1), 1)], [True, True]),
    ],
)
def test_a_class_has_a_contrast_where_more_than_one_image_in_twenty_lacks_it(rows, expected):
    assert has_contrast(targets(*rows)).tolist() == expected


def test_labels_that_are_the_same_everywhere_are_refused_with_what_to_add():
    with pytest.raises(CorpusError, match=r"All 12 labelled images .*'leaf' \(on 12\), 'root' \(on 12\)\..*empty") as e:
        refuse_no_contrast(targets(((1, 1), 12)), ["leaf", "root"])
    assert "\n" not in str(e.value)


def test_labels_that_are_nearly_the_same_everywhere_are_refused_too():
    with pytest.raises(CorpusError, match=r"Nearly all of the 40 labelled images .*'leaf' \(on 40\), 'root' \(on 39\)"):
        refuse_no_contrast(targets(((1, 1), 39), ((1, 0), 1)), ["leaf", "root"])


def test_a_class_on_nearly_all_images_is_named_where_another_can_be_learnt():
    rows = targets(((1, 0), 19), ((1, 1), 19), ((0, 1), 2))
    refuse_no_contrast(rows, ["RBC", "Platelets"])
    (note,) = contrast_notes(rows, ["RBC", "Platelets"], "mean average precision")
    assert "40 labelled images show 'RBC' (on 38)" in note
    assert "left out of the mean average precision, and its boxes mean little" in note
    assert contrast_notes(rows[:, 1:], ["Platelets"], "mean average precision") == []


def test_a_class_on_all_validation_images_is_left_out_of_the_metric():
    """Its average precision is 1 whatever the classifier says."""
    logits = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    present = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert float(classification_metric(logits, present, "multi")) == pytest.approx(0.5)
    assert classification_metric(logits[:, :1], present[:, :1], "multi") is None


@pytest.mark.filterwarnings("ignore:No positive samples")
def test_classes_without_contrast_are_left_out_of_the_metric():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 2.0], [1.0, 0.0, 0.0]])
    truth = torch.eye(3)[[0, 2, 2, 0]]
    assert float(classification_metric(logits, truth, "single", torch.tensor([False, True, True]))) == 0.5
    assert classification_metric(logits, truth, "single", torch.tensor([False, True, False])) is None
    multi = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert float(classification_metric(logits, multi, "multi", torch.tensor([False, True, True]))) == 1.0


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny_backbone(monkeypatch)


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize("labels", [ALWAYS, OFTEN])
def test_training_on_the_same_labels_everywhere_is_refused_and_leaves_nothing(tmp_path: Path, labels) -> None:
    with pytest.raises(CorpusError, match="All 12 labelled images have the same labels"):
        train(tmp_path, named(("r", 12, labels)), objective="multi")
    assert not (tmp_path / "model").exists()


@pytest.mark.usefixtures("_tiny")
def test_the_other_classes_are_trained_and_a_note_names_those_without_contrast(tmp_path: Path) -> None:
    labels = named(("r", 10, ("cell", "red")), ("b", 10, ("cell", "blue")))
    summary = train(tmp_path, labels, validation_share=0.3)
    assert summary.classes == 3
    assert "'cell' (on 20)" in summary.notes[-1]
    assert summary.value == float(read_history(summary.folder / "history.csv")[summary.best_epoch - 1]["val_metric"])


@pytest.mark.usefixtures("_tiny")
def test_the_summary_counts_validation_and_missing_images(tmp_path: Path) -> None:
    labels = named(("r", 8, ("red",)), ("b", 8, ("blue",)))
    train(tmp_path / "other", labels, epochs=1)
    rows = (tmp_path / "other" / "labels.csv").read_text() + "gone.png,red\n"
    (tmp_path / "other" / "labels.csv").write_text(rows)
    corpus = {"images": tmp_path / "other" / "images", "labels": tmp_path / "other" / "labels.csv"}
    summary = training_job.train(settings_for(tmp_path, corpus, epochs=1))
    assert (summary.images, summary.validation_images, summary.missing) == (12, 4, 1)
