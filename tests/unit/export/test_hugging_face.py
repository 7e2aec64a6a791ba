"""The image folder, opened by Hugging Face's datasets."""

import json
from pathlib import Path

import pytest

from mining.export import export


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("datasets", reason="datasets is not installed")


def opened(datasets, run: Path, tmp_path: Path, **options: object):
    export(run, "hf", tmp_path / "set", **options)
    return datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))


def test_every_image_has_its_boxes_and_pixels(datasets, small_run, tmp_path: Path) -> None:
    parts = opened(datasets, small_run.folder, tmp_path, val_share=0.5)
    assert set(parts) == {"train", "validation"}
    names = {number: image.file_name for number, image in enumerate(small_run.painted, start=101)}
    found = {}
    classes = json.loads((tmp_path / "set" / "classes.json").read_text(encoding="utf-8"))
    for part in parts.values():
        for row in part:
            assert row["image"].size == (row["width"], row["height"])
            objects = row["objects"]
            found[names[row["image_id"]]] = [
                (classes[category], pytest.approx((x, y, x + w, y + h), abs=0.01))
                for category, (x, y, w, h) in zip(objects["categories"], objects["bbox"], strict=True)
            ]
            for x, y, w, h in objects["bbox"]:
                red, green, blue = row["image"].convert("RGB").getpixel((round(x + w / 2), round(y + h / 2)))
                assert red > 200
                assert green < 80
                assert blue < 80
    assert {name: boxes for name, boxes in found.items() if boxes} == small_run.truth()
    assert found["truly empty.jpg"] == []


def test_a_split_without_a_box_is_joined_to_train(datasets, small_run, tmp_path: Path) -> None:
    summary = export(small_run.folder, "hf", tmp_path / "plain")
    assert "No image of validation has a box, so its images are in train." in summary.notes
    assert set(opened(datasets, small_run.folder, tmp_path)) == {"train"}


def test_a_run_without_boxes_is_opened(datasets, small_run, tmp_path: Path) -> None:
    parts = opened(datasets, small_run.folder, tmp_path, min_score=1.0)
    assert [row["objects"]["bbox"] for row in parts["train"]] == [[]]


def test_scores_and_ids_stand_with_the_boxes(datasets, small_run, tmp_path: Path) -> None:
    parts = opened(datasets, small_run.folder, tmp_path, val_share=0.0)
    assert set(parts) == {"train"}
    objects = next(row["objects"] for row in parts["train"] if row["image_id"] == 101)
    assert objects["id"] == [1, 2]
    assert objects["score"] == pytest.approx([0.9, 0.7])


def test_the_readme_still_says_what_the_boxes_are(small_run, tmp_path: Path) -> None:
    export(small_run.folder, "hf", tmp_path / "set")
    text = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\n")
    assert "# Pseudo-annotations of the run small" in text
