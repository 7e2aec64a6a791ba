"""Run benchmarks: prints a table and writes build/bench.json, {name: {value, goal, unit, detail, higher_is_better}}.

    python tests/benchmarks/bench.py [NAME ...]

Compared functions run alternately in one process; a value is the median of the ratios.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from gpu import gpu
from gradients import cam_over_forward, gradcampp_over_forward, msrd_over_forward
from large import orchestration, rss_growth
from measuring import ORACLES, ROOT, Figure, compare_alternately
from mining_speed import (
    adaptive,
    busy,
    cold_start,
    mine_over_runtime_forward,
    mine_over_torch_forward,
    refined_over_plain,
)
from review_speed import review_page_1m, review_start_1m
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from training_speed import frozen_training

from mining.evaluation import Detections, TruthBoxes, coco_scores
from mining.evaluation.metrics.pycocotools_engine import pycocotools_scores
from mining.evaluation.protocols.box_accuracy import AccuracyAtThresholds
from mining.evaluation.protocols.region_accuracy import RegionAccuracy
from mining.evaluation.protocols.wsoleval import (
    SIDE_PX,
    BoxAccuracy,
    Contours,
    grey_levels,
    iou_plus_one,
    resize_boxes,
    resize_map,
    threshold_grid,
)
from mining.regions.extraction import boxes_from_map

ORACLE = ORACLES / "wsoleval" / "wsoleval_boxeval.npz"


# --- regions ---------------------------------------------------------------------------------------------------------


def regions_us() -> Figure:
    """Boxes of all regions of a map of 224 x 224 px: seconds of SciPy's label and find_objects over ours."""
    noise = np.random.default_rng(0).random((50, 224, 224))
    maps = [ndimage.gaussian_filter(one, 12).astype(np.float32) for one in noise]

    def ours() -> None:
        for one in maps:
            boxes_from_map(one, threshold=0.5, normalise="minmax")

    def scipy() -> None:
        for one in maps:
            level = (one - one.min()) / (one.max() - one.min())
            labels, count = ndimage.label(level >= 0.5, np.ones((3, 3)))
            ndimage.find_objects(labels)
            ndimage.maximum(level, labels, range(1, count + 1))
            ndimage.mean(level, labels, range(1, count + 1))

    ratio, peer, seconds = compare_alternately(scipy, ours)
    detail = f"{1e6 * seconds / 50:.0f} us per map, SciPy {1e6 * peer / 50:.0f}"
    return Figure(ratio, 4, "times", detail, higher_is_better=True)


# --- threshold curves ------------------------------------------------------------------------------------------------

Pair = tuple[np.ndarray, np.ndarray, tuple[int, int]]


def load_oracle_pairs() -> list[Pair]:
    """Load activation map, true boxes and size of each of the 120 images."""
    with np.load(ORACLE) as file:
        maps, boxes, owner, sizes = (file[name] for name in ("cams28", "gt_boxes", "gt_image", "image_sizes_wh"))
    return [(maps[image], boxes[owner == image], tuple(sizes[image].tolist())) for image in range(len(maps))]


def counted(accuracy: BoxAccuracy | RegionAccuracy, pairs: list[Pair]) -> BoxAccuracy | RegionAccuracy:
    for activation, true_boxes, size in pairs:
        # resized to 224 x 224, so that both have as many pixels, though boxmine measures a map at its own size
        level = resize_map(activation) if isinstance(accuracy, RegionAccuracy) else activation
        accuracy.add(level, true_boxes, size)
    return accuracy


def counted_level_by_level(pairs: list[Pair]) -> AccuracyAtThresholds[Contours]:
    """Follow the released evaluator of the protocol, with the largest contour and with all contours."""
    kinds: tuple[Contours, ...] = ("largest", "all")
    accuracy = AccuracyAtThresholds(threshold_grid(), kinds)
    for activation, true_boxes, size in pairs:
        truth = resize_boxes(true_boxes, size, (SIDE_PX, SIDE_PX))
        grey = grey_levels(resize_map(activation))
        accuracy.count({kind: best_iou_level_by_level(grey, truth, accuracy.thresholds, kind) for kind in kinds})
    return accuracy


def best_iou_level_by_level(
    grey: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, contours: Contours
) -> np.ndarray:
    """Search contours anew at each threshold; returns the best IoU at each."""
    boxes: list[tuple[int, ...]] = []
    first = []
    for threshold in thresholds:
        _, mask = cv2.threshold(grey, int(threshold * grey.max()), 255, cv2.THRESH_BINARY)
        found = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
        if contours == "largest" and found:
            found = [max(found, key=cv2.contourArea)]
        sides = [cv2.boundingRect(contour) for contour in found]
        first.append(len(boxes))
        boxes += [(x, y, min(x + w, SIDE_PX - 1), min(y + h, SIDE_PX - 1)) for x, y, w, h in sides] or [(0, 0, 0, 0)]
    return np.maximum.reduceat(iou_plus_one(boxes, truth).max(axis=1), first)


def sweep_speedup(ours: type[BoxAccuracy] | type[RegionAccuracy], goal: float) -> Figure | str:
    """MaxBoxAcc and MaxBoxAccV2 at 1000 thresholds: seconds of one search per threshold over ours."""
    if not ORACLE.is_file():
        return f"no numbers at {ORACLE}: set BOXMINE_ORACLES"
    pairs = load_oracle_pairs()
    ratio, slow, fast = compare_alternately(lambda: counted_level_by_level(pairs), lambda: counted(ours(), pairs))
    found, expected = counted(ours(), pairs), counted_level_by_level(pairs)
    gaps = [found.best_accuracy(kind) - expected.best_accuracy(kind) for kind in expected.correct]
    identical = all((found.correct[kind] == expected.correct[kind]).all() for kind in expected.correct)
    said = "figures identical" if identical else f"figures within {100 * np.abs(gaps).max():.2f} points"
    if ours is BoxAccuracy and not identical:
        said += " MISSED"
    per_map = 1000 / len(pairs)
    detail = f"{len(pairs)} maps: {per_map * fast:.2f} ms per map, one search per threshold {per_map * slow:.1f} in two searches; {said}"
    return Figure(ratio, goal, "times", detail, higher_is_better=True)


# --- large corpora ---------------------------------------------------------------------------------------------------

SCAN = """
import sys, time
from pathlib import Path
from mining.corpus import scan
folder = Path(sys.argv[1])
with (folder / "labels.csv").open("w") as file:
    file.write("file_name,labels\\n")
    file.writelines(f"d{i * 7919 % 1000:03d}/photo_{i * 7919 % 1000000:08d}.jpg,cat|dog\\n" for i in range(1000000))
started = time.perf_counter()
assert scan(folder, folder / "labels.csv", folder / "corpus.parquet", check_files=False).images == 1000000
"""

WRITE = """
import sys, time
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from mining.export import write_coco_json
from mining.runs.schema import ANNOTATION_SCHEMA
from mining.corpus.schema import CORPUS_SCHEMA
folder, at_once = Path(sys.argv[1]), 10000
fixed = {"width": 640, "height": 480, "category": "dog", "threshold": 0.25, "scales": [1.0, 1.5, 2.0],
         "localizer": "cam", "model_sha256": "0" * 64, "merged_from": 1, "source": "label", "category_id": 1}
corpus = {"width": 640, "height": 480, "labels": ["dog"], "split": None, "bytes": 1, "content_hash": None,
          "state": "labelled"}
def table(schema, values, count):
    columns = [pa.array(values[f.name] if not isinstance(values[f.name], (int, float, str, list, type(None)))
               else [values[f.name]] * count, f.type) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)
random = np.random.default_rng(0)
with pq.ParquetWriter(folder / "corpus.parquet", CORPUS_SCHEMA) as writer:
    for first in range(1, 500001, at_once):
        ids = np.arange(first, first + at_once)
        writer.write_table(table(CORPUS_SCHEMA, {**corpus, "image_id": ids, "file_name": ids.astype(str)}, at_once))
started = time.perf_counter()
with pq.ParquetWriter(folder / "a.parquet", ANNOTATION_SCHEMA, compression="zstd") as writer:
    for first in range(1, 1000001, at_once):
        ids = np.arange(first, first + at_once)
        images = (ids + 1) // 2
        moving = {name: random.random(at_once) * 400 for name in ("x", "y", "w", "h", "area", "score", "class_score",
                                                                  "peak", "mean_activation")}
        values = {**fixed, **moving, "annotation_id": ids, "image_id": images, "file_name": images.astype(str)}
        writer.write_table(table(ANNOTATION_SCHEMA, values, at_once))
count = write_coco_json(folder / "a.json", corpus=folder / "corpus.parquet", annotations=folder / "a.parquet",
                        categories=[{"id": 1, "name": "dog"}], info={})
assert count == 1000000
"""
SCORE = """
import json, sys, time
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from mining.runs.schema import CURVE_SCHEMA, CURVE_THRESHOLDS
from mining.evaluation import score_run
run, images, boxes, classes = Path(sys.argv[1]), 200000, 1000000, 20
random = np.random.default_rng(0)
names = [f"{i // 1000:03d}/{i:07d}.jpg" for i in range(images)]
labels = [f"class {i}" for i in range(classes)]
side = {"width": pa.array([640] * images, pa.int32()), "height": pa.array([480] * images, pa.int32())}
pq.write_table(pa.table({"image_id": np.arange(images), "file_name": names, **side}), run / "corpus.parquet")
(run / "model").mkdir()
(run / "model" / "model.json").write_text(
    json.dumps({"classes": [{"id": i, "name": name} for i, name in enumerate(labels)]}))
def drawn(count):
    wh = random.uniform(20, 300, (count, 2))
    return np.concatenate([random.random((count, 2)) * ([640, 480] - wh), wh], axis=1).round(1)
true_image, true_class, true_box = random.integers(images, size=boxes // 2), random.integers(
    classes, size=boxes // 2), drawn(boxes // 2)
rows = zip(true_image.tolist(), true_class.tolist(), true_box.tolist())
(run / "truth.json").write_text(json.dumps({
    "images": [{"id": i, "file_name": name, "width": 640, "height": 480} for i, name in enumerate(names)],
    "annotations": [{"id": i, "image_id": image, "category_id": one, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
                    for i, (image, one, box) in enumerate(rows, start=1)],
    "categories": [{"id": i, "name": name} for i, name in enumerate(labels)]}))
near = random.integers(boxes // 2, size=boxes)
near = near[np.argsort(true_image[near], kind="stable")]
image, category = true_image[near], true_class[near]
box = np.maximum(true_box[near] + random.normal(0, 30, (boxes, 4)), [0, 0, 1, 1]).astype(np.float32)
columns = {name: box[:, i] for i, name in enumerate("xywh")}
pq.write_table(pa.table({"file_name": np.array(names)[image], "category": np.array(labels)[category], **columns,
                         "score": random.random(boxes).astype(np.float32)}), run / "annotations.parquet")
pairs, first = np.unique(image * classes + category, return_index=True)
corners = np.clip(np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)[first], 0, 640).astype(np.uint16)
with pq.ParquetWriter(run / "curves.parquet", CURVE_SCHEMA, compression="zstd") as writer:
    for start in range(0, len(pairs), 1000):
        some, steps = pairs[start:start + 1000], len(CURVE_THRESHOLDS)
        shrinking = corners[start:start + 1000, None] * np.linspace(1.3, 0.7, steps)[:, None]
        values = {"image_id": some // classes, "category_id": some % classes, "width": [640] * len(some),
                  "height": [480] * len(some), "map_width": [640] * len(some), "map_height": [480] * len(some),
                  "otsu": [0.4] * len(some), "entropy": [0.5] * len(some)}
        lists = {"xyxy": shrinking.astype(np.uint16).ravel(), "boxes": np.ones(len(some) * steps, np.uint8)}
        arrays = [pa.FixedSizeListArray.from_arrays(lists[f.name], f.type.list_size) if f.name in lists
                  else pa.array(values[f.name], f.type) for f in CURVE_SCHEMA]
        writer.write_table(pa.Table.from_arrays(arrays, schema=CURVE_SCHEMA))
del true_image, true_class, true_box, rows, near, image, category, box, columns, pairs, first, corners, arrays, lists
Path("/proc/self/clear_refs").write_text("5")  # memory so far was the preparation's
started = time.perf_counter()
scores = score_run(run, run / "truth.json")
assert scores["boxes"] == boxes and scores["thresholds"]
"""
# VmHWM, because a process inherits the ru_maxrss of the one that started it
REPORT = """
seconds = time.perf_counter() - started
print(seconds, int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
"""


def coco_speedup() -> Figure:
    """COCO metrics of 20,000 boxes: seconds of pycocotools over ours."""
    random = np.random.default_rng(0)

    def drawn(count: int) -> np.ndarray:
        return np.concatenate([random.uniform(0, 300, (count, 2)), random.uniform(20, 300, (count, 2))], axis=1)

    truth = TruthBoxes(random.integers(0, 4000, 10_000), random.integers(0, 20, 10_000), drawn(10_000))
    near = random.integers(0, 10_000, 20_000)
    xywh = np.maximum(truth.xywh[near] + random.normal(0, 30, (20_000, 4)), [0, 0, 1, 1])
    predicted = Detections(truth.image[near], truth.category[near], xywh, random.random(20_000))
    names = [str(number) for number in range(20)]
    ratio, slow, fast = compare_alternately(
        lambda: pycocotools_scores(truth, predicted, names), lambda: coco_scores(truth, predicted, names)
    )
    identical = pycocotools_scores(truth, predicted, names) == coco_scores(truth, predicted, names)
    said = "numbers identical" if identical else "numbers differ MISSED"
    return Figure(ratio, 10, "times", f"{1000 * fast:.0f} ms, pycocotools {1000 * slow:.0f}; {said}", True)


def run_in_process(program: str, seconds: float, megabytes: float) -> Figure:
    """Run a program three times in another process: median seconds, and peak memory."""
    taken = []
    for _ in range(3):
        with TemporaryDirectory() as folder:
            said = subprocess.run(
                [sys.executable, "-c", program + REPORT, folder], capture_output=True, text=True, check=True
            ).stdout
            taken.append(tuple(map(float, said.split())))
    peak = max(memory for _, memory in taken)
    detail = f"{peak:.0f} MB peak, goal {megabytes:.0f}" + (" MISSED" if peak > megabytes else "")
    return Figure(statistics.median(wall for wall, _ in taken), seconds, "s", detail)


BENCHES: dict[str, Callable[[], Figure | str]] = {  # a string is the reason why it was skipped
    **{
        f"{measure.__name__}_{len(scales)}{name}": partial(measure, backbone, scales, goal)
        for measure, goals in (
            (mine_over_torch_forward, {"": (0.6, 0.45), "_resnet50": (0.65, 0.65), "_vgg16": (0.8, 0.8)}),
            (mine_over_runtime_forward, {"": (1.25, 1.25), "_resnet50": (1.1, 1.1), "_vgg16": (1.1, 1.1)}),
        )
        for (name, both), backbone in zip(goals.items(), ("efficientnet_lite0", "resnet50", "vgg16"), strict=True)
        for goal, scales in zip(both, ((1.0,), (1.0, 1.5, 2.0)), strict=True)
    },
    "busy": busy,
    "cold_start": cold_start,
    "frozen_training": frozen_training,
    **{
        f"{measure.__name__}{suffix}": partial(measure, backbone, goal)
        for measure, goal in ((cam_over_forward, 1.05), (gradcampp_over_forward, 1.35), (msrd_over_forward, 1.35))
        for backbone, suffix in (("vgg16", ""), ("resnet50", "_resnet50"), ("efficientnet_lite0", "_lite0"))
    },
    "refined_over_plain": partial(refined_over_plain, "efficientnet_lite0", (1.0, 1.5, 2.0)),
    "refined_over_plain_resnet50": partial(refined_over_plain, "resnet50", (1.0, 1.5, 2.0)),
    "regions_us": regions_us,
    "sweep_peer_speedup": lambda: sweep_speedup(BoxAccuracy, 5),
    "sweep_native_speedup": lambda: sweep_speedup(RegionAccuracy, 15),
    "plan_1m": lambda: run_in_process(SCAN, 30, 500),
    "write_1m": lambda: run_in_process(WRITE, 5, 400),
    "score_1m": lambda: run_in_process(SCORE, 60, 2000),
    "review_start_1m": review_start_1m,
    "review_page_1m": review_page_1m,
    "coco_speedup": coco_speedup,
    "adaptive": adaptive,
    **{f"gpu_{backbone}": partial(gpu, backbone) for backbone in ("efficientnet_lite0", "resnet50", "vgg16")},
    "rss_growth": rss_growth,
    "orchestration": orchestration,
}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.exit(f"Unknown benchmark {unknown[0]!r}; known are {', '.join(BENCHES)}.")
    table = Table("benchmark", "value", "goal", "unit", "detail", box=None)
    path = ROOT / "build" / "bench.json"
    figures = json.loads(path.read_text()) if path.exists() else {}
    for name in names or BENCHES:
        figure = BENCHES[name]()
        if isinstance(figure, str):
            table.add_row(name, "skipped", "", "", figure)
            continue
        figures[name] = asdict(figure)
        missed = " missed" if figure.is_missed else ""
        goal = "" if figure.goal is None else f"{'>=' if figure.higher_is_better else '<='} {figure.goal:g}"
        table.add_row(name, f"{figure.value:.3g}{missed}", goal, figure.unit, figure.detail)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n")
    Console(width=160).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
