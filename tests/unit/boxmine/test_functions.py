"""The functions of the package on small photos, against the runs of the command line's steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import boxmine
from mining.runs import shard_mining
from tests.factories import image_with_rectangle, write_model

SETTINGS: dict[str, Any] = {"scales": (1, 1.5), "threshold": 0.4, "batch_size": 1}
NAMES = ("a.png", "b.png", "c.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three PNG photos, labels, ground truth, and a model of random weights."""
    folder = tmp_path_factory.mktemp("facade")
    (folder / "photos").mkdir()
    for number, name in enumerate(NAMES):
        Image.fromarray(image_with_rectangle(number)).save(folder / "photos" / name)
    (folder / "labels.csv").write_text("file_name,labels\na.png,dog\nb.png,dog|cat\nc.png,cat\n")
    (folder / "truth.json").write_text(_truth())
    write_model(folder / "model", ("cat", "dog"))
    return folder


def _truth() -> str:
    import json

    images = [{"id": n, "file_name": name, "width": 128, "height": 96} for n, name in enumerate(NAMES, 1)]
    boxes = [{"id": n, "image_id": n, "category_id": 1 + n % 2, "bbox": [32, 19, 58, 53], "area": 3074, "iscrowd": 0}
             for n in range(1, 4)]  # fmt: skip
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return json.dumps({"images": images, "annotations": boxes, "categories": categories})


@pytest.fixture(scope="module")
def run(folder: Path) -> boxmine.Run:
    return boxmine.mine(
        folder / "photos", labels=folder / "labels.csv", model=folder / "model", out=folder / "run", **SETTINGS
    )


def test_a_run_gives_its_tables_as_data_frames(run: boxmine.Run) -> None:
    assert isinstance(run.boxes, pd.DataFrame)
    assert len(run.boxes) > 0
    assert list(run.images["file_name"]) == list(NAMES)
    assert len(run.quarantine) == 0
    assert run.to_arrow().num_rows == len(run.boxes)
    assert run.to_arrow("boxes").schema.field("x").metadata[b"unit"] == b"px"


def test_the_threshold_of_the_run_gives_the_best_box_of_the_run(run: boxmine.Run) -> None:
    best = run.boxes.groupby(["image_id", "category_id"]).first().reset_index()
    at = run.thresholds[np.isclose(run.thresholds["threshold"], 0.4)]
    both = best.merge(at, on=["image_id", "category_id"], suffixes=("", "_at"))
    assert len(both) == len(best)
    for side in ("x", "y", "w", "h"):
        np.testing.assert_allclose(both[side], both[f"{side}_at"], atol=1e-3)


def test_an_unknown_table_is_refused(run: boxmine.Run) -> None:
    with pytest.raises(boxmine.InputError, match=r"Unknown table 'boxs': did you mean 'boxes'"):
        run.to_arrow("boxs")  # type: ignore[arg-type]


def test_a_run_is_scored_exported_reported_and_compared(run: boxmine.Run, folder: Path) -> None:
    scores = run.score(folder / "truth.json")
    assert scores.corloc == scores["corloc"]["value"]
    assert 0 <= scores.corloc <= 1
    assert run.scores is not None
    assert run.scores.corloc == scores.corloc
    assert "CorLoc" in set(scores.table["figure"])
    assert run.export("yolo", folder / "yolo").images > 0
    assert run.report().is_file()
    compared = boxmine.compare(run, run)
    assert compared["pairs"]["moved"] == 0
    assert compared.page.is_file()
    for shown in (run, scores, compared):
        assert "<table>" in shown._repr_html_()
        assert "\n" not in repr(shown)


def test_the_same_call_returns_the_finished_run(run: boxmine.Run, folder: Path) -> None:
    again = boxmine.mine(
        folder / "photos", labels=folder / "labels.csv", model=folder / "model", out=folder / "run", **SETTINGS
    )
    pd.testing.assert_frame_equal(again.boxes, run.boxes)


def test_a_shard_that_failed_is_mined_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = shard_mining.mine_shard, iter([RuntimeError("device lost")])

    def fail_once(*args: Any, **options: Any) -> Any:
        for error in failures:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(shard_mining, "mine_shard", fail_once)
    run = boxmine.mine(folder / "photos", model=folder / "model", out=folder / "retried", scales=1, retries=1)
    assert len(run.images) == len(NAMES)
    with pytest.raises(RuntimeError, match="device lost"):
        failures = iter([RuntimeError("device lost")])
        boxmine.mine(folder / "photos", model=folder / "model", out=folder / "failed", scales=1, retries=0)


def test_a_wrong_option_is_refused_as_on_the_command_line(folder: Path) -> None:
    with pytest.raises(boxmine.InputError, match=r"Unknown setting 'scals': did you mean 'scales'"):
        boxmine.mine(folder / "photos", model=folder / "model", out=folder / "x", scals=2)  # type: ignore[call-arg]
    with pytest.raises(boxmine.InputError, match="min_score"):
        boxmine.mine(folder / "photos", model=folder / "model", out=folder / "x", min_score=2)
    with pytest.raises(boxmine.InputError, match="'runner' is an option of the command line"):
        boxmine.mine(folder / "photos", model=folder / "model", out=folder / "x", runner="ray")  # type: ignore[call-arg]
    assert not (folder / "x").exists()


def test_training_on_several_devices_is_left_to_the_command(folder: Path) -> None:
    with pytest.raises(boxmine.InputError, match="use the command `boxmine train`"):
        boxmine.train(folder / "photos", out=folder / "x", devices=2)


# --- single images ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def localizer(folder: Path) -> boxmine.Localizer:
    return boxmine.load_model(folder / "model", **SETTINGS)


@pytest.mark.parametrize("kind", ["path", "text", "pil", "array"])
def test_predict_gives_the_boxes_of_the_run(
    run: boxmine.Run, localizer: boxmine.Localizer, folder: Path, kind: str
) -> None:
    for name, labels in run.images[["file_name", "labels"]].itertuples(index=False):
        path = folder / "photos" / name
        image: Any = {"path": path, "text": str(path)}.get(kind) or Image.open(path)
        found = localizer.predict(np.asarray(image) if kind == "array" else image, labels=list(labels))
        expected = run.boxes[run.boxes["file_name"] == name].reset_index(drop=True)[list(found.columns)]
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_exact=False, rtol=1e-6)


def test_predict_without_labels_asks_the_classifier(folder: Path) -> None:
    sure = boxmine.load_model(folder / "model", class_cut=0.0, max_classes=1, **SETTINGS)
    found = sure.predict(image_with_rectangle(0))
    assert set(found["source"]) <= {"prediction"}
    assert found["category"].nunique() <= 1


def test_a_heatmap_has_the_size_of_the_image_and_reaches_the_boxes(localizer: boxmine.Localizer) -> None:
    image = image_with_rectangle(1)
    best = localizer.predict(image, labels=["cat", "dog"]).iloc[0]
    level = localizer.heatmap(image, best.category)
    assert level.shape == image.shape[:2]
    assert level.dtype == np.float32
    assert level.min() >= 0
    assert level.max() <= 1
    inside = level[int(best.y) : int(best.y + best.h), int(best.x) : int(best.x + best.w)]
    assert inside.max() == pytest.approx(best.peak, abs=0.05)


def test_what_is_no_image_is_refused(localizer: boxmine.Localizer, folder: Path) -> None:
    with pytest.raises(boxmine.ImageError, match="no such file"):
        localizer.predict(folder / "missing.png")
    with pytest.raises(boxmine.ImageError, match="float64 array of shape"):
        localizer.predict(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    with pytest.raises(boxmine.ImageError, match="of type int"):
        localizer.predict(3)  # type: ignore[arg-type]
    with pytest.raises(boxmine.ModelError, match="does not know the class 'dgo'"):
        localizer.heatmap(image_with_rectangle(0), "dgo")


def test_a_turned_photo_is_turned_upright(localizer: boxmine.Localizer, folder: Path) -> None:
    image = Image.fromarray(image_with_rectangle(2))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.png", exif=exif)
    from_file = localizer.predict(folder / "turned.png", labels=["dog"])
    with Image.open(folder / "turned.png") as opened:
        from_memory = localizer.predict(opened, labels=["dog"])
    pd.testing.assert_frame_equal(from_file, from_memory)
    assert (from_file["width"] == 96).all()


# --- labelling -------------------------------------------------------------------------------------------------------


def test_a_labelling_job_publishes_once_and_then_finds_nothing_new(folder: Path) -> None:
    recipe = {
        "name": "facade",
        "store": str(folder / "store"),
        "runs": str(folder / "runs"),
        "corpus": {"images": str(folder / "photos"), "labels": str(folder / "labels.csv")},
        "model": str(folder / "model"),
        "mine": {"scales": [1]},
        "gates": {"max_no_box": 1.0},
    }
    assert boxmine.label(recipe).state == "published"
    assert boxmine.label(recipe).state == "unchanged"
