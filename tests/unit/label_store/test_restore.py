"""Restoring a version: one commit, nothing else changes, and the next job continues from it."""

from pathlib import Path
from typing import Any

import pytest

from flows.cli.application import run_command
from flows.label import label
from mining.errors import InputError
from mining.label_store.delta_table import LabelStore, Version
from mining.label_store.restore import restore_version
from mining.label_store.summaries import LabelSummary
from tests.unit.engine.painting import BOX, GREEN, scene
from tests.unit.label_store.project import GATES_OFF, LabelProject
from tests.unit.label_store.test_publish import red


def restore(project: LabelProject, moment: str, **changes: Any) -> LabelSummary:
    return label(project.settings(**changes), restore=moment)


@pytest.fixture
def two_versions(project: LabelProject) -> LabelProject:
    """Version 0: a and b. Version 1: b is deleted, a changed, c new."""
    project.add_image("a.png", red(255))
    project.add_image("b.png", red(250))
    project.run_job(gates=GATES_OFF)
    project.delete_image("b.png")
    project.add_image("a.png", scene((BOX, GREEN)))
    project.add_image("c.png", red(240))
    project.run_job(gates=GATES_OFF)
    return project


def test_restoring_publishes_the_rows_of_the_earlier_version(two_versions: LabelProject) -> None:
    first, second = two_versions.rows(0), two_versions.rows(1)
    job = restore(two_versions, "0")
    assert (job.state, job.version, job.restored, job.images, job.boxes) == ("restored", 2, 0, 2, 2)
    assert two_versions.rows() == first
    assert two_versions.rows(1) == second, "older versions stay"


def test_restoring_twice_writes_nothing(two_versions: LabelProject) -> None:
    restore(two_versions, "0")
    again = restore(two_versions, "0")
    assert (again.state, again.version, two_versions.latest_version()) == ("unchanged", 2, 2)
    assert restore(two_versions, "2").state == "unchanged"
    back = restore(two_versions, "1")
    assert (back.state, back.version) == ("restored", 3)
    assert two_versions.rows() == two_versions.rows(1)
    assert restore(two_versions, "0").state == "restored", "a restored version is not the last one any more"


def test_the_next_job_continues_from_the_restored_version(two_versions: LabelProject) -> None:
    restore(two_versions, "0")
    job = two_versions.run_job(gates=GATES_OFF)
    assert (job.state, job.version) == ("published", 3)
    assert job.tally["reasons"] == {"another content": 1, "new": 1}
    assert job.tally["retired"] == 1
    own = {name: [(row["category"], row["x"]) for row in rows] for name, rows in two_versions.rows_by_name().items()}
    assert own == {"a.png": [("green", 32)], "c.png": [("red", 32)]}
    assert two_versions.run_job(gates=GATES_OFF).state == "unchanged"


def test_ids_are_not_reused_after_restoring(two_versions: LabelProject) -> None:
    given = {row["annotation_id"]: row["content_hash"] for version in (0, 1) for row in two_versions.rows(version)}
    images = {row["image_id"] for version in (0, 1) for row in two_versions.rows(version)}
    restore(two_versions, "0")
    two_versions.add_image("d.png", red(230))
    two_versions.run_job(gates=GATES_OFF)
    (new,) = two_versions.rows_by_name()["d.png"]
    assert new["image_id"] not in images
    assert new["annotation_id"] not in given
    for row in two_versions.rows():
        assert given.get(row["annotation_id"], row["content_hash"]) == row["content_hash"]


def test_a_restored_version_of_another_model_is_relabelled(project: LabelProject) -> None:
    project.add_image("a.png", red(), "red")
    project.run_job()
    project.change_model(white=300)
    project.run_job(gates=GATES_OFF)
    restore(project, "0")
    assert project.rows() == project.rows(0)
    assert project.run_job(gates=GATES_OFF).tally["reasons"] == {"another model": 1}
    restore(project, "0")
    project.model = project.folder / "model"
    assert project.run_job(gates=GATES_OFF).state == "unchanged", (
        "the recipe names the model of the restored version again"
    )


def test_restoring_does_not_change_other_corpora(two_versions: LabelProject, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = LabelProject(tmp_path / "other")
    other.store = two_versions.store
    other.add_image("0.png", red(100))
    other.run_job(name="other", gates=GATES_OFF)
    theirs = [row for row in two_versions.rows() if row["corpus"] == "other"]
    restore(two_versions, "0")
    assert [row for row in two_versions.rows() if row["corpus"] == "other"] == theirs
    assert [row for row in two_versions.rows() if row["corpus"] == "images"] == two_versions.rows(0)
    assert other.run_job(name="other", gates=GATES_OFF).state == "unchanged"
    with pytest.raises(InputError, match=r"Version 1 of .* holds no labels of 'other'"):
        restore(other, "1", name="other")


def test_a_version_published_meanwhile_is_not_lost(
    two_versions: LabelProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = LabelProject(tmp_path / "other")
    other.store = two_versions.store
    other.add_image("0.png", red(100))
    publish, bases = LabelStore.publish, []

    def overtaken(self: LabelStore, base: Version, *rest: Any) -> int:
        bases.append(base.number)
        if len(bases) == 1:
            other.run_job(name="other", gates=GATES_OFF)
        return publish(self, base, *rest)

    monkeypatch.setattr(LabelStore, "publish", overtaken)
    assert restore_version(two_versions.settings(), "0").version == 3
    assert bases == [1, 1, 2]
    assert [row["file_name"] for row in two_versions.rows() if row["corpus"] == "other"] == ["0.png"]


def test_the_restore_command_prints_the_new_version(
    two_versions: LabelProject, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = two_versions.settings()
    recipe = two_versions.folder / "recipe.yaml"
    recipe.write_text(
        f"store: {settings.store}\nruns: {settings.runs}\nmodel: {settings.model}\ncorpus: {{images: {two_versions.photos}}}\n"
    )
    command = ["label", str(recipe), "--restore"]
    assert run_command([*command, "0"]) == 0
    assert "Version 2 of" in (said := capsys.readouterr().err)
    assert "'images' as in version 0, 2 boxes on 2 images" in said
    assert run_command([*command, "0"]) == 0
    assert "Nothing changed: 'images' is the same in version 2" in capsys.readouterr().err
    assert run_command(["status", settings.store]) == 0
    assert "version 0 restored" in capsys.readouterr().out
    for moment, why in (
        ("7", "has no version 7"),
        ("soon", "--restore soon: give a version's number"),
        ("1999-01-01", "as of"),
    ):
        assert run_command([*command, moment]) == 2
        assert why in capsys.readouterr().err
    assert run_command([*command, "0", "--accept"]) == 2
    assert two_versions.latest_version() == 2
