"""Tasks of Label Studio, validated by its SDK."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from PIL import Image

from mining.errors import InputError
from mining.export import export


def tasks_of(run: Path, out: Path, **options: object) -> dict[str, dict]:
    export(run, "labelstudio", out, **options)
    tasks = json.loads((out / "tasks.json").read_text(encoding="utf-8"))
    return {task["data"]["file_name"]: task for task in tasks}


def regions(task: dict) -> list[dict]:
    (prediction,) = task["predictions"]
    return prediction["result"]


def test_all_boxes_of_an_image_are_in_one_prediction_in_percent_of_the_image(small_run, tmp_path: Path) -> None:
    tasks = tasks_of(small_run.folder, tmp_path / "out")
    found = {
        name: [
            (
                region["value"]["rectanglelabels"][0],
                pytest.approx(
                    [
                        region["value"]["x"] * region["original_width"] / 100,
                        region["value"]["y"] * region["original_height"] / 100,
                        (region["value"]["x"] + region["value"]["width"]) * region["original_width"] / 100,
                        (region["value"]["y"] + region["value"]["height"]) * region["original_height"] / 100,
                    ],
                    abs=0.01,
                ),
            )
            for region in regions(task)
        ]
        for name, task in tasks.items()
        if task["predictions"]
    }
    truth = small_run.truth()
    assert set(found) == set(truth)
    assert all([(name, list(xyxy)) for name, xyxy in truth[file]] == boxes for file, boxes in found.items())


def test_a_prediction_scores_as_its_most_doubtful_box(small_run, tmp_path: Path) -> None:
    task = tasks_of(small_run.folder, tmp_path / "out")["a/1.jpg"]
    assert [region["score"] for region in regions(task)] == [0.9, 0.7]
    assert task["predictions"][0]["score"] == 0.7


def test_regions_name_their_box(small_run, tmp_path: Path) -> None:
    task = tasks_of(small_run.folder, tmp_path / "out")["a/1.jpg"]
    keys = [f"{task['data']['run']}-{number}" for number in (1, 2)]
    assert [region["id"] for region in regions(task)] == keys
    assert [region["meta"] for region in regions(task)] == [{"box": key} for key in keys]
    assert task["data"]["annotation_ids"] == [1, 2]


def test_every_image_is_where_its_task_says_and_a_browser_shows_it(small_run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for task in tasks_of(small_run.folder, out).values():
        address = urlsplit(task["data"]["image"])
        assert address.path == "/data/local-files/"
        with Image.open(out / parse_qs(address.query)["d"][0]) as image:
            assert image.format in {"JPEG", "PNG", "GIF"}
            assert image.getexif().get(0x0112, 1) == 1


def test_images_without_a_box_are_left_out_with_a_note_unless_asked_for(small_run, tmp_path: Path) -> None:
    summary = export(small_run.folder, "labelstudio", tmp_path / "few")
    assert any("1 image is left out for having no box" in note for note in summary.notes)
    assert not any("detector" in note for note in summary.notes)
    tasks = tasks_of(small_run.folder, tmp_path / "all", include_empty=True)
    assert tasks["nobody knows.jpg"]["predictions"] == []


def test_ground_truth_for_validation_is_refused(small_run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--val-truth is for training sets"):
        export(small_run.folder, "labelstudio", tmp_path / "out", val_truth=tmp_path / "truth.json")


def test_the_labelling_interface_lists_the_classes(small_run, tmp_path: Path) -> None:
    export(small_run.folder, "labelstudio", tmp_path / "out")
    view = ElementTree.parse(tmp_path / "out" / "label_config.xml")
    assert [label.get("value") for label in view.iter("Label")] == ["dog", "cat & <mouse>"]


def test_label_studio_accepts_interface_tasks_and_predictions(small_run, tmp_path: Path) -> None:
    interfaces = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    tasks = tasks_of(small_run.folder, tmp_path / "out", include_empty=True)
    interface = interfaces.LabelInterface((tmp_path / "out" / "label_config.xml").read_text(encoding="utf-8"))
    interface.validate()
    for task in tasks.values():
        assert interface.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert interface.validate_prediction(prediction, return_errors=True) == []
    prediction["result"][0]["value"]["rectanglelabels"] = ["no class"]
    assert not interface.validate_prediction(prediction)


def plan_of(tmp_path: Path, *names: str) -> Path:
    path = tmp_path / "plan.csv"
    path.write_text("annotation_id,file_name,plan\n" + "".join(f"1,{name},p\n" for name in names), encoding="utf-8")
    return path


def test_only_the_images_of_a_plan_are_exported_with_all_their_boxes(small_run, tmp_path: Path) -> None:
    names = ("a/1.jpg", "nobody knows.jpg", "broken.jpg")
    plan = plan_of(tmp_path, *names, names[0])
    tasks = tasks_of(small_run.folder, tmp_path / "out", plan=plan)
    assert set(tasks) == set(names[:2])
    assert len(regions(tasks["a/1.jpg"])) == 2
    notes = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "1 image is in the plan, but not among the readable images" in notes


def test_a_plan_of_another_run_is_refused(small_run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no image of the plan"):
        export(small_run.folder, "cvat", tmp_path / "out", plan=plan_of(tmp_path, "other.jpg"))


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "file_name,plan\n"])
def test_a_file_that_is_no_plan_is_refused(small_run, tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.csv").write_text(text)
    with pytest.raises(InputError, match="plan"):
        export(small_run.folder, "cvat", tmp_path / "out", plan=tmp_path / "plan.csv")
