"""An earlier version restored: one commit, nothing else touched, and the next night planned from it."""

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
from tests.unit.label_store.desk import Desk
from tests.unit.label_store.test_nights import GATES_OFF
from tests.unit.label_store.test_publish import red


def restore(desk: Desk, moment: str, **changes: Any) -> LabelSummary:
    return label(desk.settings(**changes), restore=moment)


@pytest.fixture
def nights(desk: Desk) -> Desk:
    """Version 0: a and b. Version 1: b is deleted, a changed, c new."""
    desk.put("a.png", red(255))
    desk.put("b.png", red(250))
    desk.job(gates=GATES_OFF)
    desk.remove("b.png")
    desk.put("a.png", scene((BOX, GREEN)))
    desk.put("c.png", red(240))
    desk.job(gates=GATES_OFF)
    return desk


def test_the_rows_of_the_earlier_version_are_the_newest_ones(nights: Desk) -> None:
    first, second = nights.rows(0), nights.rows(1)
    job = restore(nights, "0")
    assert (job.state, job.version, job.restored, job.images, job.boxes) == ("restored", 2, 0, 2, 2)
    assert nights.rows() == first
    assert nights.rows(1) == second, "older versions stay"


def test_restored_again_nothing_is_written(nights: Desk) -> None:
    restore(nights, "0")
    again = restore(nights, "0")
    assert (again.state, again.version, nights.version()) == ("unchanged", 2, 2)
    assert restore(nights, "2").state == "unchanged"
    back = restore(nights, "1")
    assert (back.state, back.version) == ("restored", 3)
    assert nights.rows() == nights.rows(1)
    assert restore(nights, "0").state == "restored", "a restored version is not the last one any more"


def test_the_next_night_is_planned_from_the_restored_version(nights: Desk) -> None:
    restore(nights, "0")
    job = nights.job(gates=GATES_OFF)
    assert (job.state, job.version) == ("published", 3)
    assert job.tally["reasons"] == {"another content": 1, "new": 1}
    assert job.tally["retired"] == 1
    own = {name: [(row["category"], row["x"]) for row in rows] for name, rows in nights.by_name().items()}
    assert own == {"a.png": [("green", 32)], "c.png": [("red", 32)]}
    assert nights.job(gates=GATES_OFF).state == "unchanged"


def test_no_number_is_given_twice(nights: Desk) -> None:
    given = {row["annotation_id"]: row["content_hash"] for version in (0, 1) for row in nights.rows(version)}
    images = {row["image_id"] for version in (0, 1) for row in nights.rows(version)}
    restore(nights, "0")
    nights.put("d.png", red(230))
    nights.job(gates=GATES_OFF)
    (new,) = nights.by_name()["d.png"]
    assert new["image_id"] not in images
    assert new["annotation_id"] not in given
    for row in nights.rows():
        assert given.get(row["annotation_id"], row["content_hash"]) == row["content_hash"]


def test_a_version_of_another_model_is_labelled_anew_by_the_model_of_the_recipe(desk: Desk) -> None:
    desk.put("a.png", red(), "red")
    desk.job()
    desk.train(white=300)
    desk.job(gates=GATES_OFF)
    restore(desk, "0")
    assert desk.rows() == desk.rows(0)
    assert desk.job(gates=GATES_OFF).tally["reasons"] == {"another model": 1}
    restore(desk, "0")
    desk.model = desk.folder / "model"
    assert desk.job(gates=GATES_OFF).state == "unchanged", "the recipe names the model of the restored version again"


def test_other_corpora_of_the_store_stay_as_they_are(nights: Desk, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Desk(tmp_path / "other")
    other.store = nights.store
    other.put("0.png", red(100))
    other.job(name="other", gates=GATES_OFF)
    theirs = [row for row in nights.rows() if row["corpus"] == "other"]
    restore(nights, "0")
    assert [row for row in nights.rows() if row["corpus"] == "other"] == theirs
    assert [row for row in nights.rows() if row["corpus"] == "images"] == nights.rows(0)
    assert other.job(name="other", gates=GATES_OFF).state == "unchanged"
    with pytest.raises(InputError, match=r"Version 1 of .* holds no labels of 'other'"):
        restore(other, "1", name="other")


def test_a_version_that_another_job_publishes_meanwhile_is_not_lost(
    nights: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = Desk(tmp_path / "other")
    other.store = nights.store
    other.put("0.png", red(100))
    publish, bases = LabelStore.publish, []

    def overtaken(self: LabelStore, base: Version, *rest: Any) -> int:
        bases.append(base.number)
        if len(bases) == 1:
            other.job(name="other", gates=GATES_OFF)
        return publish(self, base, *rest)

    monkeypatch.setattr(LabelStore, "publish", overtaken)
    assert restore_version(nights.settings(), "0").version == 3
    assert bases == [1, 1, 2]
    assert [row["file_name"] for row in nights.rows() if row["corpus"] == "other"] == ["0.png"]


def test_the_command_line(nights: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    settings = nights.settings()
    recipe = nights.folder / "recipe.yaml"
    recipe.write_text(
        f"store: {settings.store}\nruns: {settings.runs}\nmodel: {settings.model}\ncorpus: {{images: {nights.photos}}}\n"
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
    assert nights.version() == 2
