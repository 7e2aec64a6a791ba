"""Files with which detectors are trained on an exported COCO set: its paths, class names and numbers filled in."""

from pathlib import Path
from string import Template

from mining.corpus.splits import TRAIN, VAL
from mining.export.exported_set import ExportedSet

FOLDER = "configs"
_NOT_HELD_OUT = "\n# No image is held out: validation is on the training images."

_TORCHVISION = '''"""The set as torchvision's detectors take it: `dataset(TRAIN)[0]` is (image, {"boxes", "labels"}).

Put it on the path of your training script, for example one of torchvision's references/detection.
"""

from pathlib import Path

import torch
from torchvision.datasets import CocoDetection
from torchvision.transforms.functional import to_tensor

DATA = Path(__file__).resolve().parents[1]$remark
TRAIN, VAL = "$train", "$val"
NAMES = {$numbered}  # label: name; 0 is background
NUM_CLASSES = $top  # of the detector: the greatest label, and background


def as_tensors(image, boxes):
    kept = [box for box in boxes if not box["iscrowd"]]
    xywh = torch.tensor([box["bbox"] for box in kept], dtype=torch.float32).reshape(-1, 4)
    xyxy = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
    labels = torch.tensor([box["category_id"] for box in kept], dtype=torch.int64)
    return to_tensor(image), {"boxes": xyxy, "labels": labels}


def dataset(annotations):
    return CocoDetection(DATA / "images", DATA / "annotations" / annotations, transforms=as_tensors)
'''

_DETECTRON2 = '''"""Train Detectron2's RetinaNet on the set: python configs/detectron2_train.py"""

from pathlib import Path

from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultTrainer

DATA = Path(__file__).resolve().parents[1]
MODEL = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"$remark
FILES = {"boxes_train": "$train", "boxes_val": "$val"}

for name, annotations in FILES.items():
    register_coco_instances(name, {}, str(DATA / "annotations" / annotations), str(DATA / "images"))

cfg = get_cfg()
cfg.merge_from_file(model_zoo.get_config_file(MODEL))
cfg.MODEL.WEIGHTS = model_zoo.get_checkpoint_url(MODEL)
cfg.MODEL.RETINANET.NUM_CLASSES = $count
cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("boxes_train",), ("boxes_val",)
cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False  # images without a box show none of the classes
cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR = 4, 0.0025
cfg.OUTPUT_DIR = "detectron2-output"

if __name__ == "__main__":
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()
'''

_MMDETECTION = """# Train MMDetection's RetinaNet on the set: mim train mmdet configs/mmdetection.py
_base_ = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"

data_root = "{{ fileDirname }}/../"$remark
_train, _val = "annotations/$train", "annotations/$val"
metainfo = {"classes": ($names)}
_common = {"data_root": data_root, "metainfo": metainfo, "data_prefix": {"img": "images/"}}

train_dataloader = {
    "batch_size": 4,
    "dataset": {**_common, "ann_file": _train, "filter_cfg": {"filter_empty_gt": False}},
}
val_dataloader = {"dataset": {**_common, "ann_file": _val}}
test_dataloader = val_dataloader
val_evaluator = {"ann_file": data_root + _val}
test_evaluator = val_evaluator
model = {"bbox_head": {"num_classes": $count}}
optim_wrapper = {"optimizer": {"lr": 0.0025}}
"""

_FILES = {"torchvision_data.py": _TORCHVISION, "detectron2_train.py": _DETECTRON2, "mmdetection.py": _MMDETECTION}
CONFIG_FILES = {
    f"{FOLDER}/torchvision_data.py": "the set as torchvision's detectors take it, for your training script",
    f"{FOLDER}/detectron2_train.py": "a training of Detectron2's RetinaNet",
    f"{FOLDER}/mmdetection.py": "a configuration of MMDetection's RetinaNet",
}
CARD_LINES = (
    "| file | what it is |",
    "|---|---|",
    *(f"| `{file}` | {what} |" for file, what in CONFIG_FILES.items()),
    "",
    "They find the set by their own place, so that the folder can be moved as a whole. Learning rates are for batches "
    "of 4 images.",
)


def write_training_configs(exported: ExportedSet, out: Path) -> None:
    """Write configs/ of a COCO export: one file each for torchvision, Detectron2 and MMDetection.

    Args:
        exported: The set.
        out: Its folder, with the COCO files in annotations/.
    """
    has_parts = len(exported.parts) > 1
    train = f"instances_{TRAIN}.json" if has_parts and TRAIN in exported.parts else "instances.json"
    held_out = [part for part in (VAL, *exported.parts) if part in exported.parts and part != TRAIN]
    val = f"instances_{held_out[0]}.json" if has_parts and held_out else train
    values = {
        "train": train, "val": val, "remark": "" if val != train else _NOT_HELD_OUT,
        "names": "".join(f"{name!r}, " for _, name in exported.classes).rstrip(" "),
        "numbered": ", ".join(f"{number}: {name!r}" for number, name in exported.classes),
        "count": len(exported.classes), "top": max((number for number, _ in exported.classes), default=0) + 1,
    }  # fmt: skip
    (out / FOLDER).mkdir()
    for file, text in _FILES.items():
        (out / FOLDER / file).write_text(Template(text).substitute(values), encoding="utf-8")
