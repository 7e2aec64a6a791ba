"""Finding the ground truth that a run was scored against."""

from pathlib import Path

import pytest

from mining.evaluation import score_run, write_scores
from mining.reporting.ground_truth_index import find_ground_truth
from mining.runs.run import Run
from tests.unit.evaluation.conftest import World


@pytest.fixture
def scored(tmp_path: Path) -> World:
    """A run that was scored against a file in another folder than its images and labels."""
    world = World(tmp_path)
    world.truth = [("a.jpg", "cat", (10, 10, 40, 40), {})]
    world.predicted = [("a.jpg", "cat", (10, 10, 40, 40), 0.9)]
    run, truth = world.write()
    (run / "run.json").write_text('{"format": "boxmine-run/1", "state": "finished", "config": {"images": "elsewhere"}}')
    write_scores(run, score_run(run, truth, resamples=0))
    return world


def test_the_recorded_path_is_found(scored: World) -> None:
    assert find_ground_truth(Run(scored.run)) == (scored.truth_file, "")


def test_a_given_file_is_taken(scored: World, tmp_path: Path) -> None:
    assert find_ground_truth(Run(scored.run), tmp_path / "other.json") == (tmp_path / "other.json", "")


def test_a_file_beside_the_images_is_found_after_both_moved(scored: World, tmp_path: Path) -> None:
    images = tmp_path / "moved" / "images"
    images.mkdir(parents=True)
    scored.truth_file.rename(images.parent / "truth.json")
    record = (scored.run / "run.json").read_text().replace("elsewhere", str(images))
    (scored.run / "run.json").write_text(record)
    assert find_ground_truth(Run(scored.run)).path == images.parent / "truth.json"


def test_a_file_that_changed_is_not_found_and_the_note_says_what_to_pass(scored: World) -> None:
    scored.truth_file.write_text(scored.truth_file.read_text() + "\n")
    path, note = find_ground_truth(Run(scored.run))
    assert path is None
    assert f"is not at {scored.truth_file} any more, or has changed" in note
    assert "pass it with --truth FILE" in note


def test_a_run_that_was_not_scored_has_a_note_on_what_to_pass(scored: World) -> None:
    (scored.run / "scores.json").unlink()
    path, note = find_ground_truth(Run(scored.run))
    assert path is None
    assert note.startswith("The run has not been scored")
    assert "--truth FILE" in note
