"""A review played by the ground truth: what it confirms, moves and removes."""

from pathlib import Path

from mining.bootstrap.training_boxes import boxes_of_run
from mining.proof.simulated_review import review
from tests.unit.proof.conftest import TRUE_BOX, Corpus


def test_wrong_boxes_are_moved_to_their_object_and_right_ones_stay(tmp_path: Path, corpus: Corpus) -> None:
    before = corpus.open().read_annotations().to_pylist()
    found = review(corpus.run, corpus.truth, 1000, 0, tmp_path / "review")
    after = found.read_annotations().to_pylist()
    assert {(row["x"], row["y"], row["w"], row["h"]) for row in after} == {TRUE_BOX}
    assert sum(row["source"] == "human" for row in after) == 2
    assert corpus.open().read_annotations().to_pylist() == before, "the run itself is not changed"
    weights = {
        float(image.weights[0]) for image in boxes_of_run(found).images if image.path.name in ("03.png", "07.png")
    }
    assert weights == {1.0}, "what a person drew is trusted"


def test_few_verdicts_leave_the_others_as_they_were_mined(tmp_path: Path, corpus: Corpus) -> None:
    runs = [review(corpus.run, corpus.truth, 3, seed, tmp_path / f"review-{seed}") for seed in (0, 1, 2)]
    corrected = [run.read_annotations(["source"])["source"].to_pylist().count("human") for run in runs]
    assert all(count <= 2 for count in corrected)
    assert len({tuple(run.read_annotations(["x"])["x"].to_pylist()) for run in runs}) > 1, "each seed draws others"


def test_a_finished_review_is_used_again(tmp_path: Path, corpus: Corpus) -> None:
    first = review(corpus.run, corpus.truth, 1000, 0, tmp_path / "review")
    written = first.annotations.stat().st_mtime_ns
    corpus.truth.unlink()
    assert review(corpus.run, corpus.truth, 1000, 0, tmp_path / "review").annotations.stat().st_mtime_ns == written


def test_a_box_without_a_free_object_of_its_class_is_removed(tmp_path: Path, corpus: Corpus) -> None:
    from tests.unit.export.conftest import Painted, write_run
    from tests.unit.proof.conftest import DOG, complete, write_truth

    images = [Painted("a.png", ((DOG, 5, 5, 20, 20, 0.9), (DOG, 35, 5, 20, 20, 0.8)), labels=("dog",))]
    written = write_run(tmp_path / "other", images)
    complete(written.folder)
    truth = write_truth(tmp_path / "other.json", images)
    found = review(written.folder, truth, 1000, 0, tmp_path / "review")
    assert [(row["x"], row["source"]) for row in found.read_annotations().to_pylist()] == [(5.0, "label")]
