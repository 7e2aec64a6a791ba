"""Simulate labels that teach little: how CorLoc of a class falls with the images that lack it, or with a companion.

    python tests/benchmarks/label_evidence.py            # the trials of docs/benchmarks.md, half an hour
    python tests/benchmarks/label_evidence.py share --pack voc-mini --names cow --negatives 0 --negatives 20   # others

Trains with the defaults on chosen training images and mines the same test images each time, whatever the training warns
of or would refuse. The passes of the frozen network are kept, because trials share their images. Writes each trial to
build/label_evidence.jsonl, which is resumed. BOXMINE_DATA is the folder with the image sets.
"""

import csv
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import sha1
from pathlib import Path

import numpy as np
import torch
from cyclopts import App
from experiments import DATA, ROOT
from PIL import Image
from torch import Tensor

import boxmine
import mining.training.fit as fit_module
from mining.arrays import Floats
from mining.backbones.base import Backbone, StageSpec
from mining.backbones.build import build
from mining.boxes.iou import iou_matrix
from mining.localizers.cell_classifier import MIDDLE_STAGES
from mining.synthetic import generate

BUILD = ROOT / "build" / "label_evidence"
TRIALS = ROOT / "build" / "label_evidence.jsonl"
HIT = 0.5
GENERATED = 2400
# pairs of classes of the generated corpus, and of the first one's images, the share that also shows the second one
PAIRS = {"chest+fish": [1, 0.975, 0.95, 0.9, 0.5], "lantern+signpost": [1, 0.95, 0.5]}

app = App(help="Simulate labels that teach little.")
Labels = dict[str, frozenset[str]]
PACKS: dict[str, "Pack"] = {}  # made here


@dataclass(frozen=True)
class Pack:
    """Images with labels and true boxes; a class is trained on `train` and mined on `test`."""

    images: Path
    train: Labels
    test: Labels
    truth: dict[tuple[str, str], Floats]  # (file, class): (n, 4) xyxy, without difficult ones
    sizes: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Trial:
    """One training: what was left in, and what its boxes of a class are worth.

    Attributes:
        kind: share, together, few or quarters.
        pack: Name of the images.
        names: The class and its companion, if any, joined by +.
        name: Which of them.
        setting: What was varied.
        seed: Of the draw and the training.
        images: Training images.
        positives: Of them with the class.
        negatives: Of them without it.
        with_other: Of them with both.
        pairs: Test images with the class.
        hits: Of them whose best box is right.
        centred: Of them on which a centred box of half the area is right.
        on_other: Of them whose best box is not on the class but on the companion.
    """

    kind: str
    pack: str
    names: str
    name: str
    setting: float
    seed: int
    images: int
    positives: int
    negatives: int
    with_other: int
    pairs: int
    hits: int
    centred: int
    on_other: int


class _CachedPasses:
    """Runs each image through the frozen network once: trials share most of their images.

    Only the last stages are kept, in float16: those that maps and the cell classifier use.
    """

    def __init__(self) -> None:
        self._network, _ = build("efficientnet_lite0", weights="imagenet")
        self._network.eval()
        self._first_used = len(self._network.stages) - 1 - MIDDLE_STAGES
        self._stages: dict[bytes, list[Tensor]] = {}

    def install(self) -> None:
        """Let every backbone that is built from now on return what is kept here."""
        initialise = Backbone.__init__

        def with_cache(backbone: Backbone, name: str, spec: StageSpec) -> None:
            initialise(backbone, name, spec)
            for number, stage in enumerate(backbone.stages):
                stage.forward = partial(self._features, number)

        Backbone.__init__ = with_cache  # type: ignore[method-assign]

    def _features(self, number: int, value: Tensor) -> Tensor:
        if number == 0:
            return self._first(value)
        keys = value.cache_keys  # type: ignore[attr-defined]
        if number < self._first_used:
            return _with_keys(value.new_zeros(len(value), 1, 1, 1), keys)
        kept = [self._stages[key][number - self._first_used] for key in keys]
        return _with_keys(torch.stack(kept).float(), keys)

    def _first(self, images: Tensor) -> Tensor:
        keys = [sha1(image.contiguous().numpy().tobytes()).digest() for image in images]
        with torch.inference_mode(False), torch.no_grad():
            for key, image in zip(keys, images, strict=True):
                if key not in self._stages:
                    every, features = [], image.clone()[None]
                    for stage in self._network.stages:
                        features = stage(features)
                        every.append(features[0])
                    self._stages[key] = [kept.half() for kept in every[self._first_used :]]
        return _with_keys(images.new_zeros(len(images), 1, 1, 1), keys)


def _with_keys(value: Tensor, keys: list[bytes]) -> Tensor:
    value.cache_keys = keys  # type: ignore[attr-defined]
    return value


@cache
def _cached_passes() -> None:
    _CachedPasses().install()


@cache
def read_pack(name: str) -> Pack:
    """Read an image set, or generate it."""
    if name in PACKS:
        return PACKS[name]
    if name == "generated":
        folder = BUILD / "generated"
        if not (folder / "truth.json").is_file():
            generate(folder, images=GENERATED, seed=7)
        labels = _labels(folder / "labels.csv")
        files = sorted(labels)
        test = {file: labels[file] for file in files[: GENERATED // 2]}
        train = {file: labels[file] for file in files[GENERATED // 2 :]}
        return Pack(folder / "images", train, test, *_truth([folder / "truth.json"]))
    folder = DATA / name
    truth = _truth([folder / "instances_train.json", folder / "instances_test.json"])
    return Pack(folder / "images", _labels(folder / "train.csv"), _labels(folder / "test.csv"), *truth)


def _labels(file: Path) -> Labels:
    with file.open() as lines:
        return {row["file_name"]: frozenset(filter(None, row["labels"].split("|"))) for row in csv.DictReader(lines)}


def _truth(files: Iterable[Path]) -> tuple[dict[tuple[str, str], Floats], dict[str, tuple[int, int]]]:
    boxes: dict[tuple[str, str], list[list[float]]] = {}
    sizes = {}
    for file in files:
        truth = json.loads(file.read_text())
        image = {row["id"]: row for row in truth["images"]}
        sizes.update({row["file_name"]: (row["width"], row["height"]) for row in truth["images"]})
        name = {row["id"]: row["name"] for row in truth["categories"]}
        for row in truth["annotations"]:
            if not row.get("ignore") and not row.get("iscrowd"):
                x, y, w, h = row["bbox"]
                key = image[row["image_id"]]["file_name"], name[row["category_id"]]
                boxes.setdefault(key, []).append([x, y, x + w, y + h])
    return {key: np.array(found) for key, found in boxes.items()}, sizes


def run_trial(
    kind: str,
    pack_name: str,
    names: Sequence[str],
    setting: float,
    seed: int,
    train: Labels,
    test: Labels,
    boxed: Sequence[str] = (),
) -> list[Trial]:
    """Train and mine, unless this was done before, and count the best boxes of the classes that are right.

    Of two classes, each is the other one's companion. `boxed` are training images whose true boxes are learned from.
    """
    if found := _done([kind, pack_name, "+".join(names), setting, seed]):
        return found
    pack = read_pack(pack_name)
    work = BUILD / f"work{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for file, labels in (("train.csv", train), ("test.csv", test)):
        rows = [f"{image},{'|'.join(sorted(shown))}" for image, shown in sorted(labels.items())]
        (work / file).write_text("\n".join(["file_name,labels", *rows]) + "\n")
    _cached_passes()
    fit_module.refuse_no_contrast = lambda *_: None  # what is refused is measured too
    given = {"boxes": _write_boxes(work / "boxes.json", pack, boxed, set().union(*train.values()))} if boxed else {}
    boxmine.train(pack.images, labels=work / "train.csv", out=work / "model", seed=seed, progress=False,
                  objective="multi", runtime="torch", **given)  # fmt: skip
    run = boxmine.mine(
        pack.images,
        labels=work / "test.csv",
        model=work / "model",
        out=work / "run",
        progress=False,
        classes=names,
        runtime="torch",
        precision="float32",
    )
    best: dict[tuple[str, str], tuple[float, list[float]]] = {}
    for row in run.boxes.to_dict("records"):
        key = row["file_name"], row["category"]
        if row["score"] > best.get(key, (-1.0, []))[0]:
            best[key] = row["score"], [row["x"], row["y"], row["x"] + row["w"], row["y"] + row["h"]]
    trials = []
    for one in names:
        hits = centred = on_other = pairs = 0
        companion = next((other for other in names if other != one), "") if len(names) == 2 else ""
        for file in test:
            if (file, one) not in pack.truth:
                continue
            pairs += 1
            width, height = pack.sizes[file]
            margin = (1 - 0.5**0.5) / 2
            middle = [width * margin, height * margin, width * (1 - margin), height * (1 - margin)]
            is_hit = (file, one) in best and _is_on(best[file, one][1], pack.truth[file, one])
            hits += is_hit
            centred += _is_on(middle, pack.truth[file, one])
            if (file, one) in best and not is_hit and (file, companion) in pack.truth:
                on_other += _is_on(best[file, one][1], pack.truth[file, companion])
        positives = sum(one in labels for labels in train.values())
        with_other = sum({one, companion} <= labels for labels in train.values())
        trials.append(
            Trial(kind, pack_name, "+".join(names), one, setting, seed, len(train), positives,
                  len(train) - positives, with_other, pairs, hits, centred, on_other)
        )  # fmt: skip
    with TRIALS.open("a") as lines:
        for trial in trials:
            lines.write(json.dumps(asdict(trial)) + "\n")
            print(trial, flush=True)
    return trials


def _write_boxes(path: Path, pack: Pack, files: Sequence[str], classes: Iterable[str]) -> Path:
    """Write the true boxes of some images as COCO JSON."""
    number = {name: place for place, name in enumerate(sorted(classes), start=1)}
    images = [
        {"id": place, "file_name": file, "width": pack.sizes[file][0], "height": pack.sizes[file][1]}
        for place, file in enumerate(files)
    ]
    rows = [
        {"image_id": place, "category_id": number[name], "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for place, file in enumerate(files)
        for name in number
        for x0, y0, x1, y1 in pack.truth.get((file, name), np.zeros((0, 4))).tolist()
    ]
    annotations = [{"id": place, **row} for place, row in enumerate(rows)]
    categories = [{"id": place, "name": name} for name, place in number.items()]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def _done(key: list[object]) -> list[Trial]:
    lines = TRIALS.read_text().splitlines() if TRIALS.is_file() else []
    rows = [json.loads(line) for line in lines]
    return [Trial(**row) for row in rows if [row[n] for n in ("kind", "pack", "names", "setting", "seed")] == key]


def _is_on(box: Sequence[float], truth: Floats) -> bool:
    return bool(iou_matrix(np.array(box), truth).max() >= HIT)


def _draw(names: Sequence[str], count: int, seed: int) -> list[str]:
    return [str(one) for one in np.random.default_rng(seed).permutation(sorted(names))[:count]]


@app.command
def share(*, pack: str, names: list[str], most: int = 1000, negatives: list[int], seed: int = 0) -> None:
    """Keep `most` images with a class, and so many without it."""
    images = read_pack(pack)
    for name in names:
        with_it = _draw([file for file, labels in images.train.items() if name in labels], most, seed)
        without = [file for file, labels in images.train.items() if name not in labels]
        test = {file: labels for file, labels in images.test.items() if name in labels}
        for count in negatives:
            kept = [*with_it, *_draw(without, count, seed + 1)]
            train = {file: images.train[file] for file in kept}
            known = set().union(*train.values())
            run_trial(
                f"share {len(with_it)}", pack, [name], count, seed, train,
                {file: labels & known for file, labels in test.items()},
            )  # fmt: skip


@app.command
def together(
    *, pack: str, pairs: list[str], shares: list[float], both: int = 1000, alone: int = 1000, seed: int = 0
) -> None:
    """Drop images so that of those with the first class, a share also has the second one.

    Args:
        pack: Images.
        pairs: `first+second`.
        shares: Of the images with the first class, how many have the second one.
        both: At most so many images with both.
        alone: Images with the second class and without the first one, at most; other images are all kept.
        seed: Of the draws and the training.
    """
    images = read_pack(pack)
    for pair in pairs:
        name, other = pair.split("+")
        groups: dict[tuple[bool, bool], list[str]] = {}
        for file, labels in images.train.items():
            groups.setdefault((name in labels, other in labels), []).append(file)
        with_both = _draw(groups[True, True], both, seed)
        test = {file: labels for file, labels in images.test.items() if name in labels and other in labels}
        total = len(with_both)
        for part in shares:
            # as many images with the first class throughout: only how many have the second one, too, changes
            count = round(part * total)
            kept = [
                *with_both[:count], *_draw(groups[True, False], total - count, seed + 1),
                *_draw(groups[False, True], alone, seed + 2), *_draw(groups[False, False], 150, seed + 3),
            ]  # fmt: skip
            train = {file: images.train[file] for file in kept}
            run_trial(f"together {total} {alone}", pack, [name, other], part, seed, train, test)


@app.command
def few(*, pack: str, names: tuple[str, ...] = (), counts: list[int], seeds: tuple[int, ...] = (0,)) -> None:
    """Keep so many images with each of some classes, and all images without them.

    Args:
        pack: Images.
        names: The classes; by default all of them.
        counts: How many images each of them has, or a few less where they share images.
        seeds: Of the draws and the trainings.
    """
    images = read_pack(pack)
    wanted = sorted(set(names) or set().union(*images.train.values()))
    test = {file: labels & set(wanted) for file, labels in images.test.items() if labels & set(wanted)}
    for seed in seeds:
        for count in counts:
            room = dict.fromkeys(wanted, count)
            train: Labels = {}
            for file in _draw(list(images.train), len(images.train), seed):
                shown = images.train[file] & set(wanted)
                if all(room[name] for name in shown):
                    train[file] = images.train[file]
                    room.update({name: room[name] - 1 for name in shown})
            run_trial("few", pack, wanted, count, seed, train, test)


@app.command
def detector(*, pack: str, counts: list[int], seed: int = 0, side: int = 160, steps: int = 300) -> None:
    """Train a detector on so many true boxes of each class, or a few more; prints its AP50 on the test images.

    Args:
        pack: Images.
        counts: Numbers of boxes.
        seed: Of the draw and the training.
        side: Longer side of the images, px.
        steps: Steps of each training, of 8 images.
    """
    from mining.config import DetectorSettings
    from mining.detection.boxed_images import BoxedImage
    from mining.detection.training import train_detector

    images = read_pack(pack)
    names = sorted(set().union(*images.train.values()))
    for count in counts:
        room = dict.fromkeys(names, count)
        boxed = []
        for file in _draw(list(images.train), len(images.train), seed):
            own = [(name, box) for name in names for box in images.truth.get((file, name), ())]
            if any(room[name] > 0 for name, _ in own):
                room.update({name: room[name] - sum(other == name for other, _ in own) for name in names})
                boxes = np.array([box for _, box in own], np.float32)
                classes = np.array([names.index(name) for name, _ in own])
                boxed.append(BoxedImage(images.images / file, None, boxes, classes, np.ones(len(own))))
        work = BUILD / f"detector{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        settings = DetectorSettings(side=side, seed=seed, epochs=-(-steps // max(1, len(boxed) // 8)))
        classes_of = [{"id": place, "name": name} for place, name in enumerate(names, start=1)]
        train_detector(settings, boxed, classes_of, work / "model")
        (work / "test.csv").write_text("\n".join(["file_name", *sorted(images.test)]) + "\n")
        run = boxmine.mine(images.images, labels=work / "test.csv", model=work / "model", out=work / "run",
                           min_score=0.01, progress=False)  # fmt: skip
        scores = run.score(DATA / pack / "instances_test.json")
        print(
            f"detector {pack} {count} boxes per class, {len(boxed)} images: AP50 {scores['coco']['AP50']:.3f}",
            flush=True,
        )


@app.command
def boxes_of_class(*, pack: str, name: str, images: int = 100, boxed: list[int], seed: int = 0) -> None:
    """Train on images that all show a class, with the true boxes of so many of them."""
    whole = read_pack(pack)
    with_it = _draw([file for file, labels in whole.train.items() if name in labels], images, seed)
    train = {file: whole.train[file] for file in with_it}
    known = set().union(*train.values())
    test = {file: labels & known for file, labels in whole.test.items() if name in labels}
    for count in boxed:
        run_trial(f"boxes {images}", pack, [name], count, seed, train, test, with_it[:count])


@app.command
def boxes_of_pair(*, pack: str, pair: str, both: int = 40, boxed: list[int], seed: int = 0) -> None:
    """Train on images of two classes that always come together, with the true boxes of so many of them."""
    images = read_pack(pack)
    first, second = pair.split("+")
    together = [file for file, labels in images.train.items() if {first, second} <= labels]
    neither = [file for file, labels in images.train.items() if not {first, second} & labels]
    kept = _draw(together, both, seed)
    train = {file: images.train[file] for file in [*kept, *_draw(neither, 150, seed + 3)]}
    test = {file: labels for file, labels in images.test.items() if {first, second} <= labels}
    for count in boxed:
        run_trial(f"boxes {both}", pack, [first, second], count, seed, train, test, kept[:count])


@app.default
def main() -> None:
    """Run the trials of docs/benchmarks.md, and print their table."""
    quarters(names=["WBC"])
    share(pack="voc-mini", names=["person"], negatives=[0, 6, 150, 310])
    share(pack="voc-mini", names=["dog"], negatives=[0, 2, 100])
    share(pack="objects7-mini", names=["kangaroo", "motorcycle"], negatives=[0, 5, 40])
    for pair, shares in PAIRS.items():
        together(pack="generated", pairs=[pair], shares=shares, both=40, alone=0)
    print("| kind | images | class | with it | without it | with its companion | CorLoc | centred box | on companion |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line in TRIALS.read_text().splitlines():
        one = Trial(**json.loads(line))
        print(
            f"| {one.kind} | {one.pack} | {one.name} | {one.positives} | {one.negatives} | {one.with_other} | "
            f"{one.hits / one.pairs:.0%} of {one.pairs} | {one.centred / one.pairs:.0%} | {one.on_other / one.pairs:.0%} |"
        )


@app.command
def quarters(*, pack: str = "bccd-mini", names: list[str], images: int = 100, seed: int = 0) -> None:
    """Train on whole images of a dense set, and on their quarters with the labels of each; mine whole images."""
    whole = read_pack(pack)
    kept = _draw(list(whole.train), images, seed)
    folder = BUILD / "quarters"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    parts: Labels = {}
    for file in kept:
        width, height = whole.sizes[file]
        with Image.open(whole.images / file) as picture:
            for number in range(4):
                x, y = number % 2 * width // 2, number // 2 * height // 2
                part = f"{Path(file).stem}_{number}.png"
                picture.crop((x, y, x + width // 2, y + height // 2)).save(folder / part)
                edges = np.array([x, y, x + width // 2, y + height // 2])
                parts[part] = frozenset(
                    name for name in whole.train[file] if _shows(whole.truth.get((file, name), np.zeros((0, 4))), edges)
                )
    for file in whole.test:
        shutil.copy(whole.images / file, folder / file)
    PACKS[f"{pack} quarters"] = Pack(folder, parts, whole.test, whole.truth, whole.sizes)
    for name in names:
        test = {file: labels for file, labels in whole.test.items() if name in labels}
        run_trial("quarters", pack, [name], 1, seed, {file: whole.train[file] for file in kept}, test)
        run_trial("quarters", f"{pack} quarters", [name], 4, seed, parts, test)


def _shows(boxes: Floats, edges: Floats) -> bool:
    """Whether a quarter of some box is inside."""
    low, high = np.maximum(boxes[:, :2], edges[:2]), np.minimum(boxes[:, 2:], edges[2:])
    inside = (high - low).clip(0).prod(axis=1)
    return bool((inside >= 0.25 * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)).any())


if __name__ == "__main__":
    app()
