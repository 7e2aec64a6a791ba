"""The corrections by people are part of the next version, and stay as long as the image has the same bytes."""

import csv
from pathlib import Path
from typing import Any

import pytest

from mining.label_store import publish
from mining.label_store.delta_table import LabelStore
from mining.label_store.reading import history
from mining.label_store.summaries import LabelSummary
from tests.unit.engine.painting import BOX, MANY, black, scene
from tests.unit.label_store.project import GATES_OFF, LabelProject
from tests.unit.label_store.test_publish import red
from tests.unit.label_store.verdicts import Row, draw, record

MINED = (32.0, 16.0, 48.0, 32.0)
BETTER = (30.0, 14.0, 52.0, 36.0)
ELSEWHERE = (1.0, 1.0, 12.0, 10.0)


def job(project: LabelProject, **options: Any) -> LabelSummary:
    return project.run_job(**{"gates": GATES_OFF, **options})


def run_of(project: LabelProject, number: int = 1) -> Path:
    (found,) = (path for path in project.runs.glob(f"images-{number:05}-*") if path.is_dir())
    return found


def correction(row: Row, verdict: str, xywh: tuple[float, ...] | None = None) -> Row:
    """A row of a plan with a verdict, and another box if one is given."""
    box = {} if xywh is None else dict(zip("xywh", map(str, xywh), strict=True))
    return {**row, "verdict": verdict, **box}


def judge(run: Path, verdicts: dict[str, tuple[Any, ...]]) -> None:
    """Record verdicts by file name; all other boxes are correct. The plan is drawn once."""
    plan = run.parent.parent / f"{run.name}-plan.csv"
    rows = draw(run) if not plan.exists() else list(csv.DictReader(plan.open(newline="")))
    filled = [correction(row, *verdicts.get(row["file_name"], ("correct",))) for row in rows]
    record(run, filled, lambda row: row["verdict"])


def boxes(project: LabelProject) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """Source and xywh of each box by file name."""
    return {
        name: [(row["source"], tuple(row[side] for side in "xywh")) for row in rows if row["category"] is not None]
        for name, rows in project.rows_by_name().items()
    }


@pytest.fixture
def labelled(project: LabelProject) -> LabelProject:
    """Four images with one box each, published."""
    for number in range(4):
        project.add_image(f"{number}.png", red(255 - number))
    assert job(project).state == "published"
    return project


def test_corrections_of_a_published_run_become_a_version_of_their_own(labelled: LabelProject) -> None:
    before = labelled.rows_by_name()
    judge(run_of(labelled), {"0.png": ("nothing",), "1.png": ("correct", BETTER), "2.png": ("wrong_place", ELSEWHERE)})
    summary = job(labelled)
    assert (summary.state, summary.version, summary.boxes, summary.images) == ("published", 1, 3, 4)
    assert (summary.tally["corrected"], summary.tally["kept"], summary.runs) == (3, 1, [])
    source = before["3.png"][0]["source"]
    assert boxes(labelled) == {
        "0.png": [], "1.png": [("human", BETTER)], "2.png": [("human", ELSEWHERE)], "3.png": [(source, MINED)]
    }  # fmt: skip
    after = labelled.rows_by_name()
    assert after["3.png"] == before["3.png"]
    assert (after["0.png"][0]["state"], after["1.png"][0]["state"]) == ("no_box", "labelled")
    numbers = [row["annotation_id"] for row in labelled.rows() if row["annotation_id"]]
    assert sorted(numbers) == [4, 5, 6], "a box that a person made has a number of its own"
    assert after["1.png"][0]["image_id"] == before["1.png"][0]["image_id"]
    assert after["1.png"][0]["run"] == run_of(labelled).name
    newest = history(str(labelled.store))[0]
    assert (newest["precision"]["value"], newest["precision"]["verdicts"]) == (pytest.approx(0.5), 4)


def test_the_next_job_publishes_nothing(labelled: LabelProject) -> None:
    judge(run_of(labelled), {"1.png": ("correct", BETTER)})
    job(labelled)
    for _ in range(2):
        assert (summary := job(labelled)).state == "unchanged"
        assert summary.tally["corrected"] == 0


def test_verdicts_that_change_no_box_publish_nothing_and_are_shown_with_their_version(labelled: LabelProject) -> None:
    assert history(str(labelled.store))[0]["precision"] is None
    judge(run_of(labelled), {})
    assert job(labelled).state == "unchanged"
    (version,) = history(str(labelled.store))
    assert (version["precision"]["value"], version["precision"]["verdicts"]) == (1.0, 4)


def test_a_later_verdict_replaces_an_earlier_one(labelled: LabelProject) -> None:
    mined = boxes(labelled)
    judge(run_of(labelled), {"0.png": ("nothing",), "1.png": ("correct", BETTER)})
    job(labelled)
    judge(run_of(labelled), {"1.png": ("correct", MINED)})
    summary = job(labelled)
    assert (summary.state, summary.tally["corrected"]) == ("published", 2)
    assert boxes(labelled) == mined
    assert {row["state"] for row in labelled.rows()} == {"labelled"}


def test_a_run_that_is_published_after_its_verdicts_is_corrected_in_one_version(project: LabelProject) -> None:
    for number in range(4):
        project.add_image(f"{number}.png", red(255 - number))
    assert project.run_job(gates={**GATES_OFF, "min_precision": 0.5}).state == "staged"
    judge(run_of(project), {"0.png": ("nothing",), "1.png": ("correct", BETTER)})
    summary = project.run_job(gates={**GATES_OFF, "min_precision": 0.5})
    assert (summary.state, summary.version, summary.boxes) == ("published", 0, 3)
    assert summary.precision is not None
    assert summary.precision["value"] == pytest.approx(0.75), "of the mined boxes, before their correction"
    assert boxes(project)["0.png"] == []
    assert boxes(project)["1.png"] == [("human", BETTER)]
    assert job(project).state == "unchanged"


def test_corrections_and_new_images_are_one_version(labelled: LabelProject) -> None:
    judge(run_of(labelled), {"1.png": ("correct", BETTER)})
    labelled.add_image("new.png", red(100))
    labelled.delete_image("0.png")
    summary = job(labelled)
    assert (summary.version, summary.tally["corrected"], summary.tally["reasons"]) == (1, 1, {"new": 1})
    assert sorted(boxes(labelled)) == ["1.png", "2.png", "3.png", "new.png"]
    assert boxes(labelled)["1.png"] == [("human", BETTER)]


# --- what happens to a person's boxes ---------------------------------------------------------------------------------


def test_another_model_keeps_the_boxes_that_people_made(labelled: LabelProject) -> None:
    judge(run_of(labelled), {"0.png": ("correct", BETTER), "1.png": ("wrong_place", ELSEWHERE), "2.png": ("nothing",)})
    job(labelled)
    labelled.change_model(200.0)
    summary = job(labelled)
    assert summary.tally["reasons"] == {"another model": 4}
    found = boxes(labelled)
    assert found["0.png"] == [("human", BETTER)], "in place of the mined box that overlaps it"
    assert sorted(source for source, _ in found["1.png"])[0] == "human", "and where no mined box does, besides them"
    assert ("human", ELSEWHERE) in found["1.png"]
    assert len(found["1.png"]) == 2
    assert [source for source, _ in found["2.png"]] != [], "the new model's box is another one, which nobody judged"
    assert {row["run"] for row in labelled.rows()} == {run_of(labelled, 2).name}
    assert job(labelled).state == "unchanged", "an image with a person's box is not mined again and again"


def test_boxes_that_people_made_are_kept_if_the_new_model_finds_nothing(labelled: LabelProject) -> None:
    judge(run_of(labelled), {"0.png": ("correct", BETTER)})
    job(labelled)
    job(labelled, mine={"min_score": 1.0})
    assert boxes(labelled) == {"0.png": [("human", BETTER)], "1.png": [], "2.png": [], "3.png": []}
    assert labelled.rows_by_name()["0.png"][0]["state"] == "labelled"
    assert job(labelled, mine={"min_score": 1.0}).state == "unchanged"


def test_they_are_kept_even_if_their_run_is_gone(labelled: LabelProject) -> None:
    judge(run_of(labelled), {"0.png": ("correct", BETTER), "1.png": ("wrong_place", ELSEWHERE)})
    job(labelled)
    run_of(labelled).rename(labelled.folder / "elsewhere")
    assert job(labelled).state == "unchanged"
    labelled.change_model(200.0)
    job(labelled)
    assert boxes(labelled)["0.png"] == [("human", BETTER)]
    assert ("human", ELSEWHERE) in boxes(labelled)["1.png"]
    assert job(labelled).state == "unchanged"


def test_a_verdict_on_the_former_run_still_changes_the_box_that_was_kept(labelled: LabelProject) -> None:
    judge(run_of(labelled), {"0.png": ("correct", BETTER)})
    job(labelled)
    labelled.change_model(200.0)
    job(labelled)
    judge(run_of(labelled), {"0.png": ("correct", MINED)})
    job(labelled)
    ((source, box),) = boxes(labelled)["0.png"]
    assert (source != "human", box) == (True, MINED)


def test_other_labels_keep_the_boxes_that_people_made(project: LabelProject) -> None:
    project.add_image("0.png", MANY, "red")
    job(project)
    judge(run_of(project), {"0.png": ("wrong_place", ELSEWHERE)})
    job(project)
    project.labels = {"0.png": ("red", "blue")}
    job(project)
    assert ("human", ELSEWHERE) in boxes(project)["0.png"]


def test_a_class_that_the_model_lacks_is_left_out_with_a_warning(project: LabelProject) -> None:
    project.add_image("0.png", MANY)
    job(project)
    judge(run_of(project), {"0.png": ("wrong_place", ELSEWHERE)})
    job(project)
    classes = {row["category"]: row["category_id"] for row in project.rows()}
    kept, other = sorted(classes)
    summary = job(project, mine={"classes": [kept]})
    assert summary.warnings == [f"1 box that people made left out, because the model has no such class: {other}."]
    assert [(row["category"], row["source"]) for row in project.rows() if row["source"] == "human"] == [(kept, "human")]
    job(project)
    assert sum(row["source"] == "human" for row in project.rows()) == 2, "it is in the run and comes back"


def test_another_picture_has_no_boxes_of_the_former_one(labelled: LabelProject) -> None:
    judge(run_of(labelled), {"0.png": ("correct", BETTER)})
    job(labelled)
    labelled.add_image("0.png", scene((BOX, (180, 0, 0))))
    job(labelled)
    assert [source for source, _ in boxes(labelled)["0.png"]] != ["human"]


def test_renamed_and_copied_images_keep_their_corrections(labelled: LabelProject) -> None:
    judge(run_of(labelled), {"0.png": ("correct", BETTER), "1.png": ("nothing",)})
    job(labelled)
    labelled.rename_image("0.png", "renamed.png")
    labelled.add_image("0.png", red(90))  # another picture under the name that was judged
    labelled.add_image("copy.png", (labelled.photos / "1.png").read_bytes())
    job(labelled)
    found = boxes(labelled)
    assert found["renamed.png"] == [("human", BETTER)]
    assert [source for source, _ in found["0.png"]] != ["human"]
    assert found["copy.png"] == found["1.png"] == []
    assert job(labelled).state == "unchanged"


def test_an_image_that_was_renamed_before_its_verdict_is_published_is_corrected(labelled: LabelProject) -> None:
    judge(run_of(labelled), {"0.png": ("correct", BETTER)})
    labelled.rename_image("0.png", "renamed.png")
    job(labelled)
    assert boxes(labelled)["renamed.png"] == [("human", BETTER)]
    assert job(labelled).state == "unchanged"


def test_a_restored_version_stays_as_it_was(labelled: LabelProject) -> None:
    mined = boxes(labelled)
    judge(run_of(labelled), {"0.png": ("nothing",)})
    job(labelled)
    from flows.label import label

    label(labelled.settings(), restore="0")
    assert boxes(labelled) == mined
    assert job(labelled).state == "unchanged"
    judge(run_of(labelled), {"0.png": ("nothing",), "1.png": ("nothing",)})
    job(labelled)
    assert [name for name, found in boxes(labelled).items() if not found] == ["0.png", "1.png"]


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["record_intention", "record_publication"])
def test_a_job_that_is_killed_while_it_publishes_corrections_is_made_up_for(
    labelled: LabelProject, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    judge(run_of(labelled), {"0.png": ("nothing",)})
    with monkeypatch.context() as patched:
        patched.setattr(publish, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            job(labelled)
    job(labelled)
    assert labelled.latest_version() == 1
    assert boxes(labelled)["0.png"] == []
    assert job(labelled).state == "unchanged"


def test_corrections_are_published_once_by_a_job_that_is_overtaken(
    labelled: LabelProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(run_of(labelled), {"0.png": ("correct", BETTER)})
    real, tries = LabelStore.publish, []

    def overtaken(self: LabelStore, *arguments: Any) -> int:
        tries.append(True)
        if len(tries) == 1:
            job(labelled, name="other", runs=labelled.folder / "other-runs")
        return real(self, *arguments)

    monkeypatch.setattr(LabelStore, "publish", overtaken)
    summary = job(labelled)
    assert (summary.version, len(tries)) == (2, 3)
    own = [row for row in labelled.rows() if row["corpus"] == "images"]
    assert [row["source"] for row in own if row["file_name"] == "0.png"] == ["human"]
    numbers = [row["annotation_id"] for row in labelled.rows() if row["annotation_id"]]
    assert len(numbers) == len(set(numbers)) == 8


def test_an_image_without_a_box_stays_without_one(project: LabelProject) -> None:
    project.add_image("0.png", red())
    project.add_image("black.png", black())
    job(project)
    judge(run_of(project), {"0.png": ("nothing",)})
    job(project)
    assert boxes(project) == {"0.png": [], "black.png": []}
    assert job(project).boxes == 0
