"""The recipes of papers, run from end to end on a few small images in the layout of CUB-200-2011 or ILSVRC."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.cli.application import run_command
from mining.config import RunSettings, parse
from mining.config.recipes import read_recipe

FOLDER = Path(__file__).parents[2] / "deployments/recipes/papers"
RECIPES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
SYNSETS = ("n01440764", "n01443537", "n01484850")
HEIGHT, WIDTH = 48, 64
# the smallest settings that run every part
TINY = {
    "train.weights": "none", "train.freeze": "false", "train.batch_size": "4", "train.workers": "0",
    "train.accelerator": "cpu", "mine.device": "cpu", "mine.workers": "1", "train.backbone": "mobilenet_v2",
}  # fmt: skip
WITHOUT_TRAINING = {"msrd-ilsvrc"}
TRAINED = [name for name in RECIPES if name not in WITHOUT_TRAINING]
Box = tuple[int, int, int, int]


def save_photo(path: Path, number: int) -> Box:
    """Write a JPEG of noise with one bright object; returns its box as x, y, width, height in px."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 90, (HEIGHT, WIDTH, 3), np.uint8)
    x, y = (int(side) for side in random.integers(0, 20, 2))
    pixels[y : y + 24, x : x + 32, number % 3] = 240
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "JPEG")
    return x, y, 32, 24


def write_cub(folder: Path) -> Path:
    """Write two training and two test images per class, with the list files of the dataset."""
    lists: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")
    }
    for number in range(1, 4 * len(BIRDS) + 1):
        place = (number - 1) // 4
        name = f"{BIRDS[place]}/{BIRDS[place][4:]}_{number:04d}_79{number}.jpg"
        box = save_photo(folder / "images" / name, number)
        lists["images"].append(f"{number} {name}")
        lists["image_class_labels"].append(f"{number} {place + 1}")
        lists["train_test_split"].append(f"{number} {number % 2}")
        lists["bounding_boxes"].append(f"{number} {' '.join(f'{side:.1f}' for side in box)}")
    lists["classes"] = [f"{place} {name}" for place, name in enumerate(BIRDS, start=1)]
    for name, rows in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")
    return folder


def write_ilsvrc(folder: Path) -> Path:
    """Write three training images per synset and five validation images with XML, as the Kaggle archive unpacks."""
    for place, synset in enumerate(SYNSETS):
        for number in range(3):
            save_photo(folder / "Data/CLS-LOC/train" / synset / f"{synset}_{number}.JPEG", 10 * place + number)
    xml = folder / "Annotations/CLS-LOC/val"
    xml.mkdir(parents=True)
    rows = [("file_name", "labels")]
    for number in range(1, 6):
        stem, synset = f"ILSVRC2012_val_{number:08d}", SYNSETS[number % 3]
        x, y, w, h = save_photo(folder / "Data/CLS-LOC/val" / f"{stem}.JPEG", 100 + number)
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + w, y + h), strict=True)
        box = "".join(f"<{name}>{side}</{name}>" for name, side in corners)
        (xml / f"{stem}.xml").write_text(
            f"<annotation><folder>val</folder><filename>{stem}</filename>"
            f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size><segmented>0</segmented>"
            f"<object><name>{synset}</name><difficult>0</difficult><bndbox>{box}</bndbox></object></annotation>"
        )
        rows.append((f"{stem}.JPEG", synset))
    with (folder / "val.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of both datasets, by the endings of the recipes' names."""
    folder = tmp_path_factory.mktemp("datasets")
    return {"cub": write_cub(folder / "CUB_200_2011"), "ilsvrc": write_ilsvrc(folder / "ILSVRC")}


def paths_in(datasets: Mapping[str, Path], name: str) -> dict[str, str]:
    """Build the changes that give a recipe the paths of its dataset."""
    kind = name.rpartition("-")[2]
    root = str(datasets[kind])
    if kind == "cub":
        return {"corpus.images": root, "corpus.labels": root, "truth": root}
    xml = f"{root}/Annotations/CLS-LOC/val"
    if name in WITHOUT_TRAINING:
        return {"corpus.images": f"{root}/Data/CLS-LOC/val", "corpus.labels": xml, "truth": xml}
    images = {"corpus.images": f"{root}/Data/CLS-LOC/train", "test.images": f"{root}/Data/CLS-LOC/val"}
    return {**images, "test.labels": xml, "truth": xml}


def tiny_settings(name: str, side: int = 48) -> dict[str, str]:
    """Build the changes to a small network and input, slightly larger crops, and one epoch per stage."""
    crop = {"train.crop_from": str(side + 16)} if "crop_from" in RECIPES[name].read_text() else {}
    return {**TINY, **crop, "train.input_size": str(side), "train.epochs": "2" if "ornet" in name else "1"}


def run_recipe(name: str, out: Path, changes: Mapping[str, str]) -> int:
    options = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    return run_command(["run", str(RECIPES[name]), "--out", str(out), *options])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def mined(run: Path) -> Sequence[str]:
    return pq.read_table(run / "corpus.parquet")["file_name"].to_pylist()


def check_recipe(name: str, changes: Mapping[str, str], run: Path) -> None:
    """Run a recipe; only the test images are mined and scored, by a model of the given settings."""
    assert run_recipe(name, run, changes) == 0
    training, scores = read(run / "model/model.json")["training"], read(run / "scores.json")
    counts = {"cub": (6, 3, 6), "ilsvrc": (9, 3, 5)}[name.rpartition("-")[2]]
    assert (training["images"], training["classes"], scores["corloc"]["pairs"]) == counts
    assert scores["images"]["scored"] == len(mined(run)) == counts[2]
    settings = parse(RunSettings, read_recipe(RECIPES[name], changes)).train_settings()
    expected = {**settings.model_dump(mode="json", exclude={"out"}), "views": 0}  # whole networks see new views only
    assert training["settings"] == expected
    assert (run / "report/index.html").is_file()


# each localizer once; tests below run those of msrd
FAST = ("spg-cub", "ornet-ilsvrc", "nlccam-cub", "mldfr-ilsvrc")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in TRAINED]
)
def test_a_recipe_runs_from_the_dataset_to_its_scores(name: str, datasets: Mapping[str, Path], tmp_path: Path) -> None:
    check_recipe(name, {**paths_in(datasets, name), **tiny_settings(name)}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_recipe_runs_on_its_own_backbone(name: str, datasets: Mapping[str, Path], tmp_path: Path) -> None:
    changes = {**paths_in(datasets, name), **tiny_settings(name, side=96)}
    del changes["train.backbone"]
    check_recipe(name, changes, tmp_path)


def test_training_and_test_images_are_disjoint(datasets: Mapping[str, Path], tmp_path: Path) -> None:
    """The mined images are the test split of the lists."""
    name = "msrd-cub"
    assert run_recipe(name, tmp_path, {**paths_in(datasets, name), **tiny_settings(name)}) == 0
    split = dict(line.split() for line in (datasets["cub"] / "train_test_split.txt").read_text().splitlines())
    names = dict(line.split() for line in (datasets["cub"] / "images.txt").read_text().splitlines())
    assert sorted(mined(tmp_path)) == sorted(
        f"images/{names[i]}" for i, is_training in split.items() if is_training == "0"
    )


def run_untrained(datasets: Mapping[str, Path], out: Path, **changes: str) -> None:
    """Run the recipe that trains nothing, with random weights and on one CPU."""
    device = {"mine.weights": "none", "mine.device": "cpu", "mine.workers": "1"}
    assert run_recipe("msrd-ilsvrc", out, {**paths_in(datasets, "msrd-ilsvrc"), **device, **changes}) == 0
    scores = read(out / "scores.json")
    assert (scores["corloc"]["pairs"], scores["images"]["scored"]) == (5, 5)
    assert scores["localization"]["top5_loc"] is not None
    card = read(out / "model/model.json")
    assert card["own_head"]
    assert [one["name"] for one in card["classes"][:2]] == list(SYNSETS[:2])


def test_an_unmodified_network_mines_by_synsets(datasets: Mapping[str, Path], tmp_path: Path) -> None:
    run_untrained(datasets, tmp_path, model="pretrained:squeezenet1_1")


@pytest.mark.slow
def test_the_unmodified_network_of_the_recipe_mines(datasets: Mapping[str, Path], tmp_path: Path) -> None:
    run_untrained(datasets, tmp_path)


def test_labels_of_the_validation_images_may_be_a_csv(datasets: Mapping[str, Path], tmp_path: Path) -> None:
    labels = str(datasets["ilsvrc"] / "val.csv")
    run_untrained(datasets, tmp_path, model="pretrained:squeezenet1_1", **{"corpus.labels": labels})


def test_the_table_lists_exactly_the_recipes() -> None:
    rows = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("| [")]
    assert sorted(line.split("[")[1].split("]")[0] for line in rows) == sorted(RECIPES)
    assert len(RECIPES) == 10


@pytest.mark.parametrize("name", RECIPES)
def test_an_unchanged_recipe_is_valid_and_stays_in_the_project(name: str) -> None:
    settings = parse(RunSettings, read_recipe(RECIPES[name]))
    root = FOLDER.parents[2]
    for path in (settings.out, settings.corpus.images, settings.mine_settings().images, settings.truth):
        assert path is not None
        assert path.resolve().relative_to(root).parts[0] in ("runs", "data")
