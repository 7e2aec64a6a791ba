"""Labels from which a classifier cannot learn what a class looks like."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mining.errors import CorpusError
from mining.models.card import read_card
from mining.training import job as training_job
from mining.training.history import read_history
from mining.training.label_contrast import has_contrast, refuse_no_contrast
from mining.training.label_warnings import count_together, warn_of_labels
from mining.training.module import classification_metric
from tests.factories import register_tiny_backbone
from tests.unit.training.test_training import named, settings_for, train

ALWAYS, OFTEN = ("leaf", "root"), ("leaf",)
METRIC = "mean average precision"


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
    (sentence,) = warn_of_labels(rows, ["RBC", "Platelets"], METRIC)
    assert sentence.startswith("Nearly all of the 40 labelled images show 'RBC' (on 38): ")
    assert "it is left out of the mean average precision. Add similar images without it, more than 5%" in sentence
    assert warn_of_labels(rows[:, 1:], ["Platelets"], METRIC) == []


def test_a_class_on_all_images_is_no_companion_of_the_others():
    (sentence,) = warn_of_labels(targets(((1, 0, 1), 20), ((1, 1, 0), 20)), ["cell", "red", "blue"], METRIC)
    assert sentence.startswith("All 40 labelled images show 'cell' (on 40): ")


@pytest.mark.parametrize(("alone", "is_found"), [(1, True), (2, False)])
def test_classes_that_nearly_always_come_together_are_named_once_with_counts(alone: int, is_found: bool):
    rows = targets(((1, 1, 0), 38), ((0, 1, 0), alone), ((0, 0, 1), 30))
    sentences = warn_of_labels(rows, ["plate", "fork", "cup"], METRIC)
    start = f"'plate' and 'fork' nearly always come together (on 38 images; only one of them on {alone}): "
    assert [one.startswith(start) for one in sentences] == [True] * is_found


def test_boxes_of_classes_that_always_come_together_are_often_on_the_other():
    (sentence,) = warn_of_labels(targets(((1, 1), 38), ((0, 0), 30)), ["plate", "fork"], METRIC)
    assert sentence.startswith("'plate' and 'fork' always come together (on 38 images): labels do not say")
    assert "boxes of one are often on the other. Add images that show only one of them." in sentence


def test_true_boxes_are_a_remedy_of_classes_that_come_together_only():
    rows = targets(((1, 1, 1), 38), ((1, 0, 0), 30))
    names = ["table", "plate", "fork"]
    everywhere, pair = warn_of_labels(rows, names, METRIC, can_give_boxes=True)
    assert pair.endswith("that show only one of them, or give true boxes of 10 of the images or more (`--boxes`).")
    assert "--boxes" not in everywhere, "measured: they do not help there"
    assert not any("--boxes" in one for one in warn_of_labels(rows, names, METRIC)), "given already, or no cells"


def test_a_class_that_never_comes_without_a_frequent_one_can_be_learnt():
    rows = targets(((1, 1), 40), ((0, 1), 40), ((0, 0), 30))
    assert warn_of_labels(rows, ["plate", "fork"], METRIC) == []


def test_few_images_come_together_by_chance():
    (sentence,) = warn_of_labels(targets(((1, 1), 4), ((0, 0), 60)), ["plate", "fork"], METRIC)
    assert "come together" not in sentence
    assert warn_of_labels(targets(((1, 1), 5), ((0, 0), 60)), ["plate", "fork"], METRIC) != []


def test_classes_on_few_images_are_named_once_the_rarest_first():
    rows = targets(((1, 0, 0), 4), ((0, 1, 0), 5), ((0, 0, 1), 2), ((0, 0, 0), 40))
    (sentence,) = warn_of_labels(rows, ["plate", "fork", "cup"], METRIC)
    assert sentence.startswith("Few images show 'cup' (on 2), 'plate' (on 4): their boxes will be wrong more often")
    assert "Add images that show them, at least 5 per class" in sentence
    (sentence,) = warn_of_labels(rows[:, :2], ["plate", "fork"], METRIC)
    assert sentence.startswith("Few images show 'plate' (on 4): its boxes ")
    assert warn_of_labels(rows[:, 1:2], ["fork"], METRIC) == []


def test_many_pairs_are_four_sentences_and_their_number():
    pairs = np.repeat(np.kron(np.eye(7), np.ones(2)), 9, axis=0).astype(np.float32)
    sentences = warn_of_labels(pairs, [f"class {number}" for number in range(14)], METRIC)
    assert [sentence.count("always come together") for sentence in sentences] == [1, 1, 1, 1, 0]
    assert sentences[-1] == "So do 3 more pairs of classes."


def test_images_of_two_classes_are_counted_as_they_are_one_by_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mining.training.label_warnings._ROWS_AT_ONCE", 7)
    rows = (np.random.default_rng(0).random((50, 4)) < 0.4).astype(np.float32)
    expected = [[sum(bool(row[a] and row[b]) for row in rows) * (a != b) for b in range(4)] for a in range(4)]
    assert count_together(rows).tolist() == expected


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
def test_the_other_classes_are_trained_and_a_warning_names_those_without_contrast(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = named(("r", 10, ("cell", "red")), ("b", 10, ("cell", "blue")))
    summary = train(tmp_path, labels, validation_share=0.3)
    assert summary.classes == 3
    assert "'cell' (on 20)" in summary.warnings[0]
    assert caplog.messages == [summary.warnings[0]]  # before the training, too
    assert read_card(summary.folder).warnings == summary.warnings
    assert summary.value == float(read_history(summary.folder / "history.csv")[summary.best_epoch - 1]["val_metric"])


@pytest.mark.usefixtures("_tiny")
def test_a_pair_that_always_comes_together_is_warned_of(tmp_path: Path) -> None:
    labels = named(("r", 8, ("fork", "plate")), ("b", 8, ("cup",)))
    summary = train(tmp_path, labels, epochs=1)
    assert "'fork' and 'plate' always come together (on 8 images)" in summary.warnings[0]


@pytest.mark.usefixtures("_tiny")
def test_the_summary_counts_validation_and_missing_images(tmp_path: Path) -> None:
    labels = named(("r", 8, ("red",)), ("b", 8, ("blue",)))
    train(tmp_path / "other", labels, epochs=1)
    rows = (tmp_path / "other" / "labels.csv").read_text() + "gone.png,red\n"
    (tmp_path / "other" / "labels.csv").write_text(rows)
    corpus = {"images": tmp_path / "other" / "images", "labels": tmp_path / "other" / "labels.csv"}
    summary = training_job.train(settings_for(tmp_path, corpus, epochs=1))
    assert (summary.images, summary.validation_images, summary.missing) == (12, 4, 1)
