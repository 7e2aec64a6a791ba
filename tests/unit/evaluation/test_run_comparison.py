"""Comparison of two runs, with figures computed by hand."""

from copy import deepcopy
from pathlib import Path

import pytest

from mining.errors import RunError
from mining.evaluation.run_comparison import compare_runs
from mining.evaluation.run_scoring import score_run
from mining.reporting.score_rows import comparison_rows
from tests.unit.evaluation.conftest import World


@pytest.fixture
def worlds(world: World, tmp_path: Path) -> tuple[World, World]:
    """The known world, and one whose runs can be changed beside it."""
    other = deepcopy(world)
    other.folder = tmp_path / "second"
    other.folder.mkdir()
    return world, other


def compared(first: World, second: World, *, with_truth: bool = True):
    runs = first.write()[0], second.write()[0]
    return compare_runs(*runs, first.truth_file if with_truth else None, resamples=200)


def test_a_run_is_no_different_from_itself(worlds: tuple[World, World]) -> None:
    found = compared(*worlds).summary
    assert found["pairs"] == {"both": 3, "only_first": 0, "only_second": 0, "same": 3, "moved": 0}
    half = found["truth"]["corloc_0.5"]
    assert (half["first"], half["second"], half["difference"], half["ci95"]) == (0.5, 0.5, 0, [0, 0])
    assert (half["better"], half["worse"], half["is_clear"]) == (0, 0, False)
    recall = found["truth"]["instance_recall_at_1_fp"]
    assert (recall["first"], recall["difference"], recall["ci95"], recall["is_clear"]) == (0.75, 0, [0, 0], False)


def test_better_and_worse_pairs_are_counted(worlds: tuple[World, World]) -> None:
    first, second = worlds
    second.predicted = [
        ("a.jpg", "cat", (60, 60, 30, 30), 0.9),  # was right
        ("a.jpg", "dog", (50, 50, 40, 40), 0.95),  # was wrong
        ("b.jpg", "cat", (0, 0, 40, 24), 0.1),  # the same box of another score
        ("c.jpg", "dog", (10, 10, 80, 80), 0.7),  # was not there
    ]
    comparison = compared(first, second)
    assert {(one.file_name, one.category): one.verdict for one in comparison.changes} == {
        ("a.jpg", "cat"): "worse", ("a.jpg", "dog"): "better", ("b.jpg", "cat"): "right", ("c.jpg", "dog"): "better",
    }  # fmt: skip
    summary = comparison.summary
    assert summary["pairs"] == {"both": 3, "only_first": 0, "only_second": 1, "same": 1, "moved": 2}
    half = summary["truth"]["corloc_0.5"]
    assert (half["first"], half["second"], half["better"], half["worse"]) == (0.5, 0.75, 2, 1)
    assert summary["truth"]["corloc_0.7"]["second"] == 0.5
    gain = {(one.file_name, one.category): one.gain for one in comparison.changes}
    assert gain["c.jpg", "dog"] == pytest.approx(1)
    assert gain["a.jpg", "cat"] == pytest.approx(-1)


def test_what_is_just_below_a_threshold_is_below_it(worlds: tuple[World, World]) -> None:
    """And CorLoc equals the one of `score`."""
    first, second = worlds
    second.predicted[0] = ("a.jpg", "cat", (10, 10, 40, 19.999), 0.9)
    half = compared(first, second).summary["truth"]["corloc_0.5"]
    assert half["worse"] == 1
    assert half["second"] == score_run(*second.write())["corloc"]["value"]


def test_without_a_truth_moved_boxes_are_counted(worlds: tuple[World, World]) -> None:
    first, second = worlds
    second.predicted[0] = ("a.jpg", "cat", (10, 10, 40, 20), 0.9)
    comparison = compared(first, second, with_truth=False)
    assert comparison.summary["truth"] is None
    moved = {(one.file_name, one.category): one.agreement for one in comparison.changes if one.verdict == "moved"}
    assert moved == {("a.jpg", "cat"): 0.5}
    assert [name for name, *_ in comparison_rows(comparison.summary)][-1] == "In one run only"


def test_images_of_one_run_alone_are_counted_and_left_out(worlds: tuple[World, World]) -> None:
    first, second = worlds
    first.corpus, second.corpus = ["a.jpg", "b.jpg"], ["b.jpg", "c.jpg", "d.jpg"]
    first.predicted = [row for row in first.predicted if row[0] != "c.jpg"]
    second.predicted = [("b.jpg", "cat", (0, 0, 40, 24), 0.1), ("d.jpg", "cat", (0, 0, 9, 9), 0.5)]
    summary = compared(first, second).summary
    assert summary["images"] == {"both": 1, "only_first": 1, "only_second": 2}
    assert summary["pairs"] == {"both": 1, "only_first": 0, "only_second": 0, "same": 1, "moved": 0}
    assert summary["truth"]["pairs"] == 1


def test_runs_of_other_images_are_refused(worlds: tuple[World, World]) -> None:
    first, second = worlds
    second.corpus, second.predicted = ["z.jpg"], []
    with pytest.raises(RunError, match="have no image in common"):
        compared(first, second)


def test_a_run_without_boxes_can_be_compared(worlds: tuple[World, World]) -> None:
    first, second = worlds
    second.predicted = []
    summary = compared(first, second).summary
    assert summary["pairs"] == {"both": 0, "only_first": 3, "only_second": 0, "same": 0, "moved": 0}
    assert summary["truth"]["corloc_0.5"]["difference"] == -0.5
    second.predicted = first.predicted = []
    assert compared(first, second).summary["pairs"]["same"] == 0


def test_the_table_says_whether_the_difference_is_clear(worlds: tuple[World, World]) -> None:
    first, second = worlds
    images = [f"{number}.jpg" for number in range(30)]
    for one, box in ((first, (60, 60, 20, 20)), (second, (0, 0, 40, 40))):
        one.images = images
        one.truth = [(name, "cat", (0, 0, 40, 40), {}) for name in images]
        one.predicted = [(name, "cat", box if number else (0, 0, 40, 40), 0.5) for number, name in enumerate(images)]
    rows = comparison_rows(compared(first, second).summary)
    difference = next((value, meaning) for name, value, meaning in rows if name == "Difference")
    assert difference[0].startswith("+96.7 (95 %: +")
    assert difference[1].endswith("clear")
    first.predicted = second.predicted
    rows = comparison_rows(compared(first, second).summary)
    assert next(meaning for name, _, meaning in rows if name == "Difference").endswith("the interval includes 0")


def test_runs_without_a_shared_class_are_refused_with_both_lists(worlds: tuple[World, World]) -> None:
    worlds[1].model_classes = ["horse", "sheep"]
    with pytest.raises(RunError, match="no class in common: the first has 'cat', 'dog', the second 'horse'") as error:
        compared(*worlds, with_truth=False)
    assert error.value.exit_code == 2
