"""configs/ of a COCO export: files that train detectors with other tools."""

import ast
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from mining.export import export
from tests.unit.export.conftest import SmallRun

NAMES = ["dog", "cat & <mouse>"]


def run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def moved(unlisted_run: SmallRun, tmp_path: Path) -> Path:
    """A COCO export with held-out images, in another folder than it was written to."""
    export(unlisted_run.folder, "coco", tmp_path / "out", val_share=0.3)
    shutil.move(tmp_path / "out", tmp_path / "moved")
    return tmp_path / "moved"


def test_torchvision_trains_on_the_set(moved: Path) -> None:
    data = run_file(moved / "configs" / "torchvision_data.py")
    train, val = data.dataset(data.TRAIN), data.dataset(data.VAL)
    assert len(train) + len(val) == 12
    assert 0 < len(val) < len(train)
    assert ({1: NAMES[0], 3: NAMES[1]}, 4) == (data.NAMES, data.NUM_CLASSES)
    image, target = train[0]
    assert image.shape == (3, 40, 60)
    assert (target["boxes"].tolist(), target["labels"].tolist()) == ([[10, 10, 30, 30]], [1])
    detector = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=data.NUM_CLASSES, min_size=64, max_size=96
    )
    losses = detector([image], [target])
    assert all(bool(torch.isfinite(value)) for value in losses.values())


def test_images_without_a_box_are_negatives_for_torchvision(small_run: SmallRun, tmp_path: Path) -> None:
    export(small_run.folder, "coco", tmp_path / "out", val_share=0)
    data = run_file(tmp_path / "out" / "configs" / "torchvision_data.py")
    found = data.dataset(data.TRAIN)
    assert data.TRAIN == data.VAL == "instances.json"
    shapes = [target["boxes"].shape for _, target in found]
    assert (0, 4) in shapes
    assert all(shape[1] == 4 for shape in shapes)


def test_detectron2_is_given_files_classes_and_negatives(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registered: dict[str, tuple[str, str]] = {}

    class Config(SimpleNamespace):
        def merge_from_file(self, path: str) -> None:
            self.base = path

    def make_config() -> Config:
        return Config(
            MODEL=SimpleNamespace(RETINANET=SimpleNamespace()), DATASETS=SimpleNamespace(),
            DATALOADER=SimpleNamespace(), SOLVER=SimpleNamespace(),
        )  # fmt: skip

    parts: dict[str, dict[str, Any]] = {
        "detectron2": {"model_zoo": SimpleNamespace(get_config_file=str, get_checkpoint_url=str)},
        "detectron2.config": {"get_cfg": make_config},
        "detectron2.data": {},
        "detectron2.data.datasets": {
            "register_coco_instances": lambda name, _, annotations, images: registered.update(
                {name: (annotations, images)}
            )
        },
        "detectron2.engine": {"DefaultTrainer": None},
    }
    for name, members in parts.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    cfg = run_file(moved / "configs" / "detectron2_train.py").cfg
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("boxes_train",), ("boxes_val",))
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    counts = {}
    for name, (annotations, images) in registered.items():
        listed = COCO(annotations)
        assert [entry["name"] for entry in listed.dataset["categories"]] == NAMES
        assert all((Path(images) / image["file_name"]).is_file() for image in listed.imgs.values())
        counts[name] = len(listed.imgs)
    assert counts["boxes_train"] + counts["boxes_val"] == 12


def test_mmdetection_is_given_files_and_classes(moved: Path) -> None:
    path = moved / "configs" / "mmdetection.py"
    text = path.read_text(encoding="utf-8").replace("{{ fileDirname }}", str(path.parent))  # as MMEngine does
    config: dict[str, Any] = {}
    exec(compile(text, str(path), "exec"), config)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        data = config[loader]["dataset"]
        root = Path(data["data_root"])
        listed = COCO(str(root / data["ann_file"]))
        assert all((root / data["data_prefix"]["img"] / one["file_name"]).is_file() for one in listed.imgs.values())
        assert data["metainfo"]["classes"] == tuple(NAMES)
    assert Path(config["val_evaluator"]["ann_file"]).is_file()
    assert config["model"]["bbox_head"]["num_classes"] == 2
    assert config["train_dataloader"]["dataset"]["ann_file"] != config["val_dataloader"]["dataset"]["ann_file"]


def test_a_set_without_held_out_images_says_so_in_each_file(small_run: SmallRun, tmp_path: Path) -> None:
    export(small_run.folder, "coco", tmp_path / "out", val_share=0)
    for path in (tmp_path / "out" / "configs").iterdir():
        text = path.read_text(encoding="utf-8")
        ast.parse(text)
        assert "No image is held out" in text
        assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("format", "command"), [("coco", "configs/mmdetection.py"), ("yolo", "yolo detect train data=")]
)
def test_the_dataset_card_says_how_to_train(format: str, command: str, moved: Path, tmp_path: Path) -> None:
    export(tmp_path / "unlisted" / "run", format, tmp_path / "set")
    training = (tmp_path / "set" / "README.md").read_text(encoding="utf-8").partition("## Training\n")[2]
    assert command in training.partition("## ")[0]
