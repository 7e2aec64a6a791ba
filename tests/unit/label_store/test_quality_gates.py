"""Quality gates: counts are compared with their limits, drifts with their limits plus chance."""

import json

import numpy as np
import pytest

from mining.config import parse
from mining.corpus.schema import LABELLED, QUARANTINED
from mining.errors import InputError
from mining.label_store.diff import Tally
from mining.label_store.quality_gates import Measurements, VersionStatistics, evaluate_gates
from mining.label_store.settings import Gates, LabelSettings
from mining.label_store.summaries import GateResult
from mining.label_store.summary_text import gate_rows
from tests.unit.engine.painting import BOX, scene
from tests.unit.label_store.project import LabelProject
from tests.unit.label_store.test_publish import red


def images(boxed: int = 0, empty: int = 0, unusable: int = 0, boxes_at: int = 500) -> VersionStatistics:
    """So many images with a box, without one and unusable; all boxes have the same score and size."""
    found = VersionStatistics({LABELLED: boxed, "no_region": empty, QUARANTINED: unusable})
    found.scores[boxes_at] = found.sizes[boxes_at] = boxed
    return found


def verdicts(
    new: VersionStatistics, before: VersionStatistics | None = None, tally: Tally | None = None, **gates: float
) -> dict[str, GateResult]:
    found = evaluate_gates(Gates(**gates), Measurements(new, before or images(boxed=100), tally or Tally()))  # type: ignore[arg-type]
    return {one.gate: one for one in found}


@pytest.mark.parametrize(
    ("gate", "new", "passes"),
    [
        ("max_quarantined", images(boxed=12, unusable=7), False),
        ("max_quarantined", images(boxed=8, unusable=2), True),
        ("max_quarantined", images(boxed=7, unusable=3), False),
        ("max_quarantined", images(boxed=80, unusable=20), True),
        ("max_quarantined", images(boxed=79, unusable=21), False),
        ("max_no_box", images(boxed=5, empty=5), True),
        ("max_no_box", images(boxed=4, empty=6), False),
        ("max_no_box", images(boxed=4, empty=4, unusable=2), True),
        ("max_no_box", images(boxed=3, empty=5, unusable=2), False),
    ],
)
def test_counts_of_enough_images_are_compared_with_the_limit(gate: str, new: VersionStatistics, passes: bool) -> None:
    verdict = verdicts(new)[gate]
    assert (verdict.passed, verdict.note) == (passes, None)
    assert verdict.value is not None
    assert (verdict.value <= verdict.limit) == passes


def test_a_share_above_the_limit_of_too_few_images_passes_with_a_note() -> None:
    rows = {row[0]: row for row in gate_rows([*verdicts(images(boxed=2, unusable=7)).values()])}
    assert rows["max_quarantined"][1:4] == ("0.778", "0.200", "too few images to judge: 9 of at least 10")
    assert rows["max_no_box"][3] == "too few images to judge: 9 of at least 10"


@pytest.mark.parametrize("count", [1, 5, 6, 9])
def test_a_small_night_of_unusable_images_only_is_not_published(count: int) -> None:
    unusable = verdicts(images(unusable=count))
    assert not unusable["max_quarantined"].passed
    assert f"{count} of {count}: all of this night" in unusable["max_quarantined"].meaning
    assert unusable["max_no_box"].note == "no new image can be read"


@pytest.mark.parametrize(("count", "passes"), [(1, True), (4, True), (5, False), (6, False), (9, False)])
def test_a_small_night_without_any_box_is_not_published_from_five_images_on(count: int, passes: bool) -> None:
    assert verdicts(images(empty=count))["max_no_box"].passed == passes


def test_a_limit_of_one_passes_every_night() -> None:
    assert verdicts(images(unusable=5), max_quarantined=1.0)["max_quarantined"].passed
    assert verdicts(images(empty=50), max_no_box=1.0)["max_no_box"].passed


def test_the_minimum_number_of_images_can_be_set() -> None:
    assert not verdicts(images(boxed=2, unusable=1), min_images=3)["max_quarantined"].passed
    assert verdicts(images(boxed=12, unusable=7), min_images=20)["max_quarantined"].note is not None


def test_the_limit_of_a_drift_includes_chance() -> None:
    few = verdicts(images(boxed=5, boxes_at=900))["max_score_drift"]
    many = verdicts(images(boxed=100, boxes_at=900))["max_score_drift"]
    assert few.limit == pytest.approx(0.2 + 1.95 * np.sqrt(1 / 5 + 1 / 100))
    assert many.limit == pytest.approx(0.2 + 1.95 * np.sqrt(2 / 100))
    assert (few.value, few.outcome, many.value, many.outcome) == (1.0, "too few boxes to judge: 5", 1.0, "FAILED")
    assert few.meaning.endswith("limit: 0.200 and 0.894 that may be chance with 5 new boxes")
    rows = {row[0]: row[2] for row in gate_rows([few])}
    assert rows == {"max_score_drift": "1.094"}


def test_the_value_shown_exceeds_the_limit_exactly_where_the_gate_failed() -> None:
    tally = Tally(retired=50)
    for new in (images(3, 9, 9), images(50, 50, 50, boxes_at=100), images(1), images()):
        for verdict in verdicts(new, tally=tally).values():
            if verdict.value is not None and verdict.note is None:
                assert verdict.passed == (verdict.value <= verdict.limit), verdict.line


def test_in_a_first_version_only_the_counts_are_judged() -> None:
    found = evaluate_gates(
        Gates(min_corloc=0.5), Measurements(images(boxed=10), VersionStatistics(), Tally(), has_truth=True, corloc=0.4)
    )
    assert {one.gate: one.outcome for one in found} == {
        "max_no_box": "passed", "max_quarantined": "passed", "max_retired": "first version",
        "max_score_drift": "first version", "max_size_drift": "first version", "max_corloc_drop": "first version",
        "min_corloc": "FAILED",
    }  # fmt: skip


def test_gates_that_are_null_are_off() -> None:
    off = dict.fromkeys(
        ["max_no_box", "max_quarantined", "max_retired", "max_score_drift", "max_size_drift", "max_corloc_drop"]
    )
    assert verdicts(images(unusable=50), tally=Tally(retired=100), **off) == {}  # type: ignore[arg-type]


def test_without_new_images_only_missing_images_are_judged() -> None:
    found = verdicts(images(), tally=Tally(retired=31))
    assert {one.gate: one.outcome for one in found.values()} == {
        "max_no_box": "no new images", "max_quarantined": "no new images", "max_retired": "FAILED",
        "max_score_drift": "no new boxes", "max_size_drift": "no new boxes",
    }  # fmt: skip


def test_min_corloc_without_ground_truth_is_refused() -> None:
    values = {"store": "labels", "runs": "runs", "corpus": {"images": "photos"}, "model": "model"}
    with pytest.raises(InputError, match="The gate min_corloc needs `truth`"):
        parse(LabelSettings, {**values, "gates": {"min_corloc": 0.4}})


# --- whole nights ----------------------------------------------------------------------------------------------------


def add(project: LabelProject, night: str, good: int = 0, broken: int = 0, shade: int = 255) -> None:
    for number in range(good):
        project.add_image(f"{night}-good-{number}.png", red(shade - number), "red")
    for number in range(broken):
        project.add_image(f"{night}-broken-{number}.png", f"{night} {number}".encode(), "red")


def outcomes(gates: list[GateResult]) -> dict[str, str]:
    return {one.gate: one.outcome for one in gates}


def test_seven_broken_photos_of_nineteen_are_staged(project: LabelProject) -> None:
    add(project, "first", good=12, broken=7)
    job = project.run_job()
    assert (job.state, outcomes(job.gates)["max_quarantined"]) == ("staged", "FAILED")
    assert not project.store.exists()


def test_small_nights_are_counted_together_until_they_can_be_judged(project: LabelProject) -> None:
    add(project, "a", good=12)
    project.run_job()
    add(project, "b", good=1, broken=3, shade=200)
    first = project.run_job()
    assert (first.state, outcomes(first.gates)["max_quarantined"]) == (
        "published", "too few images to judge: 4 of at least 10",
    )  # fmt: skip
    add(project, "c", good=3, shade=190)
    second = project.run_job()
    assert outcomes(second.gates)["max_quarantined"] == "too few images to judge: 7 of at least 10"
    add(project, "d", good=3, shade=180)
    third = project.run_job()
    assert (third.state, outcomes(third.gates)["max_quarantined"]) == ("staged", "FAILED")
    (gate,) = [one for one in third.gates if one.gate == "max_quarantined"]
    assert gate.meaning.startswith("new images that cannot be used, 3 of 10, with 7 images of earlier nights")
    assert project.run_job(accept=True).state == "published"
    add(project, "e", good=2, shade=170)
    assert outcomes(project.run_job().gates)["max_quarantined"] == "too few images to judge: 2 of at least 10", (
        "begun anew"
    )


def test_a_small_night_of_bad_images_only_is_staged_whatever_the_nights_before(project: LabelProject) -> None:
    add(project, "a", good=4)
    assert project.run_job().state == "published"
    for number in range(5):
        project.add_image(f"dark-{number}.png", scene((BOX, (0, 0, number))), "red")
    job = project.run_job()
    assert (job.state, outcomes(job.gates)["max_no_box"]) == ("staged", "FAILED")
    (gate,) = [one for one in job.gates if one.gate == "max_no_box"]
    assert (gate.value, gate.meaning) == (1.0, "new images without a box, 5 of 5: all of this night")


def test_images_repaired_since_a_small_night_are_not_counted_again(project: LabelProject) -> None:
    add(project, "a", good=12)
    project.run_job()
    add(project, "b", good=1, broken=3, shade=200)
    project.run_job()
    for number in range(3):
        project.add_image(f"b-broken-{number}.png", red(150 - number), "red")
    add(project, "c", good=7, shade=190)
    job = project.run_job()
    assert (job.state, outcomes(job.gates)["max_quarantined"]) == ("published", "passed")


def test_a_known_image_that_is_listed_but_missing_counts_as_gone(project: LabelProject) -> None:
    add(project, "a", good=20)
    project.run_job()
    for number in range(8):
        (project.photos / f"a-good-{number}.png").unlink()
    add(project, "b", good=40, shade=230)
    job = project.run_job(gates={"max_score_drift": None})
    assert (job.state, job.tally["absent"], job.tally["retired"]) == ("staged", 8, 0)
    assert [one.gate for one in job.gates if not one.passed] == ["max_retired"]
    (gate,) = [one for one in job.gates if one.gate == "max_retired"]
    assert (gate.value, gate.meaning) == (
        0.4, "images of the last version that are gone, 8 of 20; 8 of them listed, but missing or unreadable",
    )  # fmt: skip
    assert project.run_job().state == "staged", "as long as they are missing"
    assert len([row for row in project.rows() if row["state"] == "labelled"]) == 20


def test_missing_known_images_do_not_count_as_unusable_new_ones(project: LabelProject) -> None:
    add(project, "a", good=20)
    project.run_job()
    for number in range(3):
        (project.photos / f"a-good-{number}.png").unlink()
    job = project.run_job()
    assert (job.state, job.quarantined, job.tally["reasons"]) == ("published", 3, {"missing or unreadable": 3})
    assert outcomes(job.gates)["max_quarantined"] == "no new images"
    add(project, "b", good=1, shade=230)
    assert project.run_job().tally["absent"] == 0, "they are known to be missing"


def test_a_new_image_that_is_listed_but_missing_counts_as_unusable(project: LabelProject) -> None:
    add(project, "a", good=12)
    for number in range(5):
        (project.photos / f"a-good-{number}.png").unlink()
    job = project.run_job()
    assert [one.gate for one in job.gates if not one.passed] == ["max_quarantined"]


def test_gate_results_are_in_the_record_of_the_version_and_in_the_log(
    project: LabelProject, caplog: pytest.LogCaptureFixture
) -> None:
    project.add_image("bright.png", red(), "red")
    project.add_image("dark.png", scene((BOX, (0, 0, 9))), "red")
    with caplog.at_level("INFO", logger="boxmine"):
        project.run_job()
    note = "too few images to judge: 2 of at least 10"
    from mining.label_store.delta_table import LabelStore

    (gate, *_) = LabelStore(str(project.store)).latest().corpus("images")["gates"]
    assert (gate["gate"], gate["value"], gate["limit"], gate["note"]) == ("max_no_box", 0.5, 0.5, note)
    lines = [json.loads(line) for line in (project.runs / ".images" / "log.jsonl").read_text().splitlines()]
    assert any(note in gate for gate in lines[-1]["gates"])
    assert f"max_no_box 0.500 (limit 0.500): {note}" in caplog.text
