"""A labelling job mines new and changed images, and no others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable, write_deltalake

from mining.errors import InputError, RunStoppedError
from mining.label_store import job, publish
from mining.label_store.delta_table import LabelStore, Version
from mining.label_store.schema import STORE_SCHEMA
from tests.unit.engine.painting import ALL, BLUE, BOX, GREEN, MANY, RED, black, scene
from tests.unit.label_store.project import GATES_OFF, LabelProject, comparable_values


def red(strength: int = 255) -> np.ndarray:
    """A scene with one red box, another picture for each strength."""
    return scene((BOX, (strength, 0, 0)))


@pytest.fixture
def labelled(project: LabelProject) -> LabelProject:
    """Five photos, labelled once; one has two things, one has none."""
    for number in range(3):
        project.add_image(f"{number}.png", red(255 - number))
    project.add_image("many.png", MANY)
    project.add_image("none.png", black())
    assert project.run_job().state == "published"
    return project


def test_the_first_job_writes_one_row_per_box_and_one_per_image_without_a_box(labelled: LabelProject) -> None:
    rows = labelled.rows_by_name()
    assert {name: len(own) for name, own in rows.items()} == {
        "0.png": 1,
        "1.png": 1,
        "2.png": 1,
        "many.png": 2,
        "none.png": 1,
    }
    assert rows["none.png"][0]["state"] == "no_class"
    assert rows["none.png"][0]["category"] is None
    one = rows["0.png"][0]
    assert (one["category"], one["x"], one["y"], one["w"], one["h"]) == ("red", 32, 16, 48, 32)
    assert one["run"].startswith("images-00001-")
    assert len(one["content_hash"]) == len(one["settings_sha256"]) == len(one["model_sha256"]) == 64
    assert sorted(row["annotation_id"] for row in labelled.rows() if row["annotation_id"]) == [1, 2, 3, 4, 5]
    schema = DeltaTable(labelled.store).to_pyarrow_dataset().schema
    assert [(one.name, one.metadata) for one in schema] == [(one.name, one.metadata) for one in STORE_SCHEMA]


def test_rows_are_what_mining_everything_gives(labelled: LabelProject, tmp_path: Path) -> None:
    expected = labelled.mine_from_scratch(tmp_path / "whole")
    assert labelled.comparable_rows() == expected


def test_without_changes_nothing_is_mined_and_no_version_is_written(labelled: LabelProject) -> None:
    before = sorted(labelled.runs.iterdir())
    again = labelled.run_job()
    assert (again.state, again.version, again.runs, again.tally["kept"]) == ("unchanged", 0, [], 5)
    assert sorted(path for path in labelled.runs.iterdir()) == before
    assert labelled.latest_version() == 0


def test_only_new_images_are_mined(labelled: LabelProject) -> None:
    old = labelled.rows()
    labelled.add_image("new.png", red(200))
    job = labelled.run_job()
    assert (job.state, job.version, job.images, job.boxes) == ("published", 1, 6, 6)
    assert job.tally["reasons"] == {"new": 1}
    assert labelled.mined_images(job.runs[0]) == ["new.png"]
    assert [row for row in labelled.rows() if row["file_name"] != "new.png"] == old
    assert labelled.rows_by_name()["new.png"][0]["image_id"] == 6


def test_a_renamed_image_keeps_its_ids_and_is_not_mined(labelled: LabelProject) -> None:
    old = labelled.rows_by_name()["many.png"]
    labelled.rename_image("many.png", "below/several.png".replace("below/", ""))
    job = labelled.run_job()
    assert (job.runs, job.tally["moved"], job.tally["retired"]) == ([], 1, 0)
    assert labelled.rows_by_name()["several.png"] == [{**row, "file_name": "several.png"} for row in old]
    assert "many.png" not in labelled.rows_by_name()


def test_a_copy_is_not_mined_and_has_ids_of_its_own(labelled: LabelProject) -> None:
    labelled.add_image("copy.png", MANY)
    job = labelled.run_job()
    assert (job.runs, job.tally["copied"], job.tally["reasons"]) == ([], 1, {"new": 1})
    copy, original = (labelled.rows_by_name()[name] for name in ("copy.png", "many.png"))
    assert [comparable_values(row) for row in copy] == [comparable_values(row) for row in original]
    assert {row["annotation_id"] for row in copy}.isdisjoint(row["annotation_id"] for row in original)
    assert copy[0]["image_id"] == 6


def test_new_identical_images_are_mined_once(labelled: LabelProject) -> None:
    for name in ("c.png", "a.png", "b.png"):
        labelled.add_image(name, red(199))
    job = labelled.run_job()
    assert labelled.mined_images(job.runs[0]) == ["a.png"]
    assert [labelled.rows_by_name()[name][0]["image_id"] for name in ("a.png", "b.png", "c.png")] == [6, 7, 8]
    assert len({row["annotation_id"] for row in labelled.rows() if row["annotation_id"]}) == 8


def test_a_changed_image_is_mined_again_and_loses_its_old_boxes(labelled: LabelProject) -> None:
    labelled.add_image("1.png", scene(((0, 0, 20, 20), GREEN)))
    job = labelled.run_job()
    assert (job.tally["reasons"], labelled.mined_images(job.runs[0])) == ({"another content": 1}, ["1.png"])
    (row,) = labelled.rows_by_name()["1.png"]
    assert (row["image_id"], row["category"], row["w"]) == (2, "green", 20)


def test_images_with_swapped_names_swap_their_boxes_and_are_not_mined(labelled: LabelProject) -> None:
    old = labelled.rows_by_name()
    for name, new in (("many.png", "x.png"), ("0.png", "many.png"), ("x.png", "0.png")):
        labelled.rename_image(name, new)
    job = labelled.run_job()
    assert job.runs == []
    assert [comparable_values(row) for row in labelled.rows_by_name()["0.png"]] == [
        comparable_values(row) for row in old["many.png"]
    ]
    assert [comparable_values(row) for row in labelled.rows_by_name()["many.png"]] == [
        comparable_values(row) for row in old["0.png"]
    ]


def test_the_boxes_of_a_deleted_image_are_dropped_and_stay_in_earlier_versions(labelled: LabelProject) -> None:
    labelled.delete_image("many.png")
    job = labelled.run_job()
    assert (job.tally["retired"], job.images, job.boxes, job.runs) == (1, 4, 3, [])
    assert "many.png" not in labelled.rows_by_name()
    assert len(labelled.rows_by_name(version=0)["many.png"]) == 2


def test_ids_are_not_reused(labelled: LabelProject) -> None:
    labelled.delete_image("none.png")
    labelled.delete_image("many.png")
    labelled.run_job(gates={"max_retired": None})
    labelled.add_image("new.png", MANY)
    labelled.run_job()
    assert {row["image_id"] for row in labelled.rows_by_name()["new.png"]} == {6}
    assert {row["annotation_id"] for row in labelled.rows_by_name()["new.png"]} == {6, 7}


def test_an_image_with_other_labels_is_mined_again(project: LabelProject) -> None:
    project.add_image("a.png", MANY, "red")
    project.add_image("b.png", MANY, "red", "green")
    project.add_image("c.png", red())
    first = project.run_job()
    assert len(project.mined_images(first.runs[0])) == 3, "one content, asked three things"
    project.labels = {**(project.labels or {}), "b.png": ("green",)}
    second = project.run_job()
    assert (second.tally["reasons"], project.mined_images(second.runs[0])) == ({"other labels": 1}, ["b.png"])
    assert [row["category"] for row in project.rows_by_name()["b.png"]] == ["green"]
    assert project.rows_by_name()["c.png"][0]["state"] == "no_class"


def test_another_model_relabels_all_images_except_those_known_to_be_empty(project: LabelProject) -> None:
    project.add_image("a.png", red(), "red")
    project.add_image("b.png", red(250), "red")
    project.add_image(
        "none.png",
        black(),
    )
    project.run_job()
    project.change_model(white=300)
    job = project.run_job(gates={"max_score_drift": None})
    assert job.tally["reasons"] == {"another model": 2}
    assert project.mined_images(job.runs[0]) == ["a.png", "b.png"]
    digests = {name: own[0]["model_sha256"] for name, own in project.rows_by_name().items()}
    assert digests["a.png"] == digests["b.png"] != digests["none.png"]


@pytest.mark.parametrize(
    ("changed", "mined", "reason"),
    [
        ({"min_score": 0.1}, ["a.png", "b.png", "c.png"], "another min_score"),
        ({"scales": (1.0, 2.0)}, ["a.png", "b.png", "c.png"], "another scales"),
        ({"class_thresholds": {"green": 0.5}}, ["b.png"], "another class_thresholds"),
        ({"min_score": 0.1, "max_area": 0.9}, ["a.png", "b.png", "c.png"], "another max_area, min_score"),
        ({"class_cut": 0.9, "max_classes": 1}, [], None),
        ({"batch_size": 1, "shard_size": 2, "workers": 2, "curves": True, "retries": 0}, [], None),
    ],
)  # fmt: skip
def test_other_settings_relabel_the_images_that_depend_on_them(
    project: LabelProject, changed: dict[str, Any], mined: list[str], reason: str | None
) -> None:
    project.add_image("a.png", MANY, "red")
    project.add_image("b.png", MANY, "red", "green")
    project.add_image("c.png", MANY, "blue")
    project.run_job()
    job = project.run_job(mine=changed, gates={})
    assert [name for run in job.runs for name in project.mined_images(run)] == mined
    assert job.tally["reasons"] == ({reason: len(mined)} if reason else {})


def test_another_class_cut_relabels_images_without_labels(labelled: LabelProject) -> None:
    job = labelled.run_job(mine={"class_cut": 0.9})
    assert job.tally["reasons"] == {"another class_cut": 5}


def test_an_unreadable_image_is_stored_with_its_reason_and_not_mined_again(labelled: LabelProject) -> None:
    labelled.add_image("broken.png", b"no image")
    job = labelled.run_job(gates={"max_quarantined": None})
    assert (job.quarantined, job.state) == (1, "published")
    (row,) = labelled.rows_by_name()["broken.png"]
    assert row["state"] == "quarantined"
    assert "broken.png" in row["reason"]
    assert labelled.run_job().state == "unchanged"
    labelled.add_image("broken.png", red(180))
    assert labelled.run_job().tally["reasons"] == {"another content": 1}
    assert labelled.rows_by_name()["broken.png"][0]["category"] == "red"


def test_a_missing_file_is_reported_once_and_mined_when_it_appears(project: LabelProject) -> None:
    project.add_image("a.png", red(), "red")
    project.add_image("later.png", red(209), "red")
    (project.photos / "later.png").rename(project.folder / "later.png")
    assert project.run_job(gates={"max_quarantined": None}).quarantined == 1
    assert project.rows_by_name()["later.png"][0]["state"] == "quarantined"
    assert project.rows_by_name()["later.png"][0]["content_hash"] is None
    assert project.run_job().state == "unchanged"
    (project.folder / "later.png").rename(project.photos / "later.png")
    assert project.run_job().tally["reasons"] == {"another content": 1}
    assert project.rows_by_name()["later.png"][0]["category"] == "red"


def test_an_image_replaced_while_it_was_mined_waits_for_the_next_job(
    labelled: LabelProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled.add_image("new.png", red(200))
    labelled.add_image("1.png", red(201))
    plan = job.plan_labels

    def replaced_after_it_was_listed(settings: Any) -> Any:
        planned = plan(settings)
        labelled.add_image("1.png", scene(((0, 0, 20, 20), BLUE)))
        return planned

    with monkeypatch.context() as patch:
        patch.setattr(job, "plan_labels", replaced_after_it_was_listed)
        first = labelled.run_job(gates={"max_quarantined": None})
    assert first.deferred == 1
    assert "1.png" not in labelled.rows_by_name(), "its boxes are of another picture"
    assert labelled.rows_by_name()["new.png"][0]["category"] == "red"
    second = labelled.run_job()
    assert (second.deferred, second.tally["reasons"]) == (0, {"new": 1})
    assert labelled.rows_by_name()["1.png"][0]["category"] == "blue"


def test_a_version_that_fails_a_gate_is_staged_and_not_readable_until_it_is_accepted(labelled: LabelProject) -> None:
    for number in range(12):
        labelled.add_image(f"dark-{number}.png", scene((BOX, (0, 0, number))))
    first = labelled.run_job()
    assert (first.state, first.version, labelled.latest_version()) == ("staged", 0, 0)
    assert [gate.gate for gate in first.gates if not gate.passed] == ["max_no_box"]
    labelled.add_image("one-more.png", scene((BOX, (0, 9, 9))))
    second = labelled.run_job()
    assert second.state == "staged"
    assert second.tally["ready"] == 12, "what was mined for the first is not mined again"
    assert labelled.mined_images(second.runs[0]) == ["one-more.png"]
    third = labelled.run_job(accept=True)
    assert (third.state, third.version, third.images) == ("published", 1, 18)
    assert third.tally["reasons"] == {"new": 13}
    assert labelled.run_job().state == "unchanged"


def test_a_version_with_half_of_the_images_gone_is_staged(labelled: LabelProject) -> None:
    for name in ("0.png", "1.png", "2.png"):
        labelled.delete_image(name)
    job = labelled.run_job()
    assert (job.state, [gate.gate for gate in job.gates if not gate.passed]) == ("staged", ["max_retired"])
    assert len(labelled.rows_by_name()) == 5


def test_a_finished_run_of_a_killed_job_is_published_by_the_next_job(
    labelled: LabelProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled.add_image("new.png", red(177))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(publish, "publish_labels", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt()))
        labelled.run_job()
    runs = sorted(path.name for path in labelled.runs.glob("images-*"))
    second = labelled.run_job()
    assert (second.state, second.tally["ready"]) == ("published", 1)
    assert sorted(path.name for path in labelled.runs.glob("images-*")) == runs


def test_an_interrupted_run_is_resumed(labelled: LabelProject, monkeypatch: pytest.MonkeyPatch) -> None:
    from mining.runs import shard_mining

    for number in range(9):
        labelled.add_image(f"new-{number}.png", red(190 - number))
    mine = shard_mining.mine_shard
    done: list[int] = []

    def stopped(run: Path, shard: int, *rest: Any) -> Any:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(shard)
        return mine(run, shard, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shard_mining, "mine_shard", stopped)
        labelled.run_job()
    labelled.add_image("last.png", red(133))
    second = labelled.run_job()
    assert second.state == "published"
    assert sorted(len(labelled.mined_images(run)) for run in second.runs) == [1, 9]
    assert len(labelled.rows_by_name()) == 15


@pytest.fixture
def other(project: LabelProject, tmp_path: Path) -> LabelProject:
    """Somebody else's photo, for the same store."""
    (tmp_path / "other").mkdir()
    other = LabelProject(tmp_path / "other")
    other.store = project.store
    other.add_image("0.png", scene((BOX, GREEN)))
    return other


def test_a_store_can_hold_several_corpora(labelled: LabelProject, other: LabelProject) -> None:
    job = other.run_job(name="green")
    assert (job.state, job.version, job.tally["retired"]) == ("published", 1, 0)
    rows = labelled.rows()
    assert len(rows) == 7
    assert [row["image_id"] for row in rows if row["corpus"] == "green"] == [6]
    assert labelled.run_job().state == "unchanged"
    labelled.add_image("new.png", red(160))
    labelled.run_job()
    assert [row["file_name"] for row in labelled.rows() if row["corpus"] == "green"] == ["0.png"]


def test_other_images_do_not_replace_a_corpus_of_the_same_name(labelled: LabelProject, other: LabelProject) -> None:
    before = labelled.rows()
    with pytest.raises(InputError, match=r"none of its images is in .*other.*another `name`"):
        other.run_job(gates=GATES_OFF)
    assert labelled.rows() == before
    assert not list(other.runs.glob("images-*")), "said before anything is mined"


def test_images_moved_to_another_folder_keep_their_boxes(labelled: LabelProject) -> None:
    labelled.photos = labelled.photos.rename(labelled.folder / "moved")
    labelled.add_image("new.png", red(160))
    labelled.delete_image("0.png")
    job = labelled.run_job()
    assert (job.state, job.tally["kept"], job.tally["reasons"]) == ("published", 4, {"new": 1})
    labelled.add_image("0.png", red())
    labelled.photos = labelled.photos.rename(labelled.folder / "again")
    labelled.change_model(white=300)
    assert labelled.run_job().tally["reasons"] == {"another model": 5, "new": 1}


@pytest.fixture
def bases(other: LabelProject, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has the other one publish while the first is about to; the versions that were published against."""
    publish = LabelStore.publish
    bases: list[int] = []

    def overtaken(self: LabelStore, base: Version, *rest: Any) -> int:
        bases.append(base.number)
        if len(bases) == 1:
            other.run_job(name="green")
        return publish(self, base, *rest)

    monkeypatch.setattr(LabelStore, "publish", overtaken)
    return bases


def test_two_jobs_that_planned_from_one_version_publish_one_after_the_other(
    labelled: LabelProject, bases: list[int]
) -> None:
    labelled.add_image("new.png", red(160))
    job = labelled.run_job()
    assert (job.state, job.version, bases) == ("published", 2, [0, 0, 1])
    ids = [row["image_id"] for row in labelled.rows()]
    assert sorted(set(ids)) == [1, 2, 3, 4, 5, 6, 7]
    numbers = [row["annotation_id"] for row in labelled.rows() if row["annotation_id"]]
    assert sorted(numbers) == list(range(1, 8))


def test_two_jobs_that_both_create_the_store_publish_one_after_the_other(
    project: LabelProject, bases: list[int]
) -> None:
    project.add_image("0.png", red())
    assert project.run_job().version == 1
    assert bases == [-1, -1, 0]
    assert sorted((row["corpus"], row["image_id"]) for row in project.rows()) == [("green", 1), ("images", 2)]


def test_a_second_job_on_the_same_runs_is_refused(labelled: LabelProject) -> None:
    with job.lock_job(labelled.settings()), pytest.raises(RunStoppedError, match="Another labelling job"):
        labelled.run_job()


def test_a_delta_table_of_another_tool_is_not_touched(project: LabelProject) -> None:
    import pyarrow as pa

    write_deltalake(project.store, pa.table({"a": [1]}))
    project.add_image("a.png", red())
    with pytest.raises(InputError, match="not a label store"):
        project.run_job()
    assert DeltaTable(project.store).to_pyarrow_table().to_pylist() == [{"a": 1}]


def test_the_store_can_be_compacted_by_other_tools(labelled: LabelProject) -> None:
    table = DeltaTable(labelled.store)
    table.optimize.compact()
    table.optimize.z_order(["image_id"])
    labelled.add_image("new.png", red(160))
    assert labelled.run_job().state == "published"
    assert len(labelled.rows_by_name()) == 6
    assert sorted(row["image_id"] for row in labelled.rows_by_name()["new.png"]) == [6]


def test_corloc_is_compared_with_the_last_version_if_there_is_ground_truth(labelled: LabelProject) -> None:
    import orjson

    truth = {
        "images": [{"id": 1, "file_name": "0.png", "width": 96, "height": 64}, {"id": 2, "file_name": "1.png", "width": 96, "height": 64}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 7, "bbox": [32, 16, 48, 32], "area": 1536, "iscrowd": 0} for n in (1, 2)
        ],
        "categories": [{"id": 7, "name": "red"}],
    }  # fmt: skip
    path = labelled.folder / "truth.json"
    path.write_bytes(orjson.dumps(truth))
    labelled.add_image("new.png", red(160))
    assert labelled.run_job(truth=path, gates={"min_corloc": 0.9}).state == "published"
    labelled.add_image("0.png", scene(((0, 0, 20, 20), RED)))
    job = labelled.run_job(truth=path)
    assert job.state == "staged"
    assert {gate.gate: gate.value for gate in job.gates if not gate.passed} == {"max_corloc_drop": 0.5}


def test_all_labelled_classes_are_mined(project: LabelProject) -> None:
    project.add_image("a.png", MANY, *ALL)
    project.run_job()
    assert [row["category"] for row in project.rows_by_name()["a.png"]] == ["red", "green", "blue"]
