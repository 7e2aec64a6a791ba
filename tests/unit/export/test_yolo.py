"""The YOLO folder, read back by Ultralytics in a separate process without network."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from mining.export import export

# Ultralytics looks for two fonts, and would download them
READ = """
import json, socket, sys
from pathlib import Path
from mining.export import export
def refuse(*_): raise OSError("no network in this test")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from ultralytics.utils import USER_CONFIG_DIR
for font in ("Arial.ttf", "Arial.Unicode.ttf"):
    (Path(USER_CONFIG_DIR) / font).touch()
from ultralytics.data import YOLODataset
from ultralytics.data.utils import check_det_dataset
data = check_det_dataset(sys.argv[1], autodownload=False)
result = {"names": data["names"], "parts": {}}
for part in ("train", "val", "test"):
    if part not in data:
        continue
    dataset = YOLODataset(data[part], data=data, task="detect", imgsz=64, augment=False, batch_size=1)
    entries = result["parts"][part] = {}
    for index, label in enumerate(dataset.labels):
        height, width = label["shape"]
        pixels, original, resized = dataset.load_image(index)
        assert original == (height, width), (original, label)
        scale = resized[1] / width
        boxes, colours = [], []
        for (number,), (cx, cy, w, h) in zip(label["cls"], label["bboxes"]):
            x0, y0, x1, y1 = (cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height
            boxes.append([int(number), [float(v) for v in (x0, y0, x1, y1)]])
            for x, y in (((x0 + x1) / 2, (y0 + y1) / 2), (x0 + 3, y0 + 3), (x1 - 4, y1 - 4)):
                colours.append(pixels[int(y * scale), int(x * scale)][::-1].tolist())
        name = str(Path(label["im_file"]).relative_to(data[part]))
        entries[name] = {"boxes": boxes, "colours": colours, "size": [width, height]}
Path(sys.argv[2]).write_text(json.dumps(result))
"""


def read(out: Path, scratch: Path) -> dict:
    # not imported here: it replaces PIL.Image.open
    if importlib.util.find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed")
    environment = os.environ | {"YOLO_CONFIG_DIR": str(scratch), "YOLO_OFFLINE": "true"}
    scratch.mkdir(exist_ok=True)
    command = [sys.executable, "-c", READ, str(out / "data.yaml"), str(scratch / "read.json")]
    child = subprocess.run(command, env=environment, cwd=scratch, capture_output=True, text=True)
    assert child.returncode == 0, child.stdout + child.stderr
    return json.loads((scratch / "read.json").read_text())


def both_parts(result: dict) -> dict:
    return result["parts"]["train"] | result["parts"]["val"]


EXPORTED_AS = {
    "images/deep.JPG": "images_/deep.JPG",
    ".hidden.jpg": "_.hidden.jpg",
    "moving.gif": "moving.gif.png",
}


def label_files(out: Path) -> set[str]:
    labels = out / "labels"
    return {p.relative_to(labels).as_posix().split("/", 1)[1] for p in labels.rglob("*.txt")}


def test_ultralytics_reads_every_box_back_on_its_object(small_run, tmp_path, is_red):
    export(small_run.folder, "yolo", tmp_path / "out", val_share=0.3)
    result = read(tmp_path / "out", tmp_path / "scratch")
    assert result["names"] == {"0": "dog", "1": "cat & <mouse>"}
    images = both_parts(result)
    expected = small_run.truth()
    for file_name in expected:
        name = EXPORTED_AS.get(file_name, file_name)
        # of 1.jpg and 1.png in one part the later is renamed
        entry = images.pop(name, None) or images.pop("a/1_png.png")
        boxes = sorted((result["names"][str(number)], xyxy) for number, xyxy in entry["boxes"])
        assert [c for c, _ in boxes] == [c for c, _ in sorted(expected[file_name])]
        np.testing.assert_allclose([b for _, b in boxes], [b for _, b in sorted(expected[file_name])], atol=0.01)
        assert all(is_red(colour) for colour in entry["colours"])
    assert list(images) == ["truly empty.jpg"]
    assert images["truly empty.jpg"]["boxes"] == []


def test_two_images_with_the_same_stem_have_separate_label_files(small_run, tmp_path):
    export(small_run.folder, "yolo", tmp_path / "out", val_share=0.0)
    assert {"a/1.txt", "a/1_png.txt", "b/1.txt"} <= label_files(tmp_path / "out")


def test_the_folder_can_be_moved(small_run, tmp_path):
    export(small_run.folder, "yolo", tmp_path / "out")
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    assert len(both_parts(read(tmp_path / "elsewhere", tmp_path / "scratch"))) == 11


def test_unknown_content_becomes_a_negative_only_on_request(small_run, tmp_path):
    export(small_run.folder, "yolo", tmp_path / "safe")
    export(small_run.folder, "yolo", tmp_path / "all", include_empty=True)
    assert label_files(tmp_path / "all") - label_files(tmp_path / "safe") == {"nobody knows.txt"}
    assert not label_files(tmp_path / "all") & {"broken.txt", "cut short.txt"}


def test_an_image_whose_boxes_all_score_too_low_is_not_a_negative(small_run, tmp_path):
    export(small_run.folder, "yolo", tmp_path / "out", min_score=0.3)
    assert "doubtful.txt" not in label_files(tmp_path / "out")


def test_listed_test_images_serve_as_val_if_there_is_no_val(listed_run, tmp_path):
    export(listed_run.folder, "yolo", tmp_path / "out")
    val = {p.name for p in (tmp_path / "out" / "images" / "val").iterdir()}
    assert val == {"00.jpg", "03.jpg", "06.jpg", "09.jpg"}


def test_the_data_file_names_only_relative_folders(small_run, tmp_path):
    export(small_run.folder, "yolo", tmp_path / "out")
    data = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text(encoding="utf-8"))
    assert data == {"train": "images/train", "val": "images/val", "names": {0: "dog", 1: "cat & <mouse>"}}
