"""Every recipe of a paper, run from end to end on a few small images that lie as CUB-200-2011 or ILSVRC do."""

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
# as little as shows that everything fits
TINY = {
    "train.weights": "none", "train.freeze": "false", "train.batch_size": "4", "train.workers": "0",
    "train.accelerator": "cpu", "mine.device": "cpu", "mine.workers": "1", "train.backbone": "mobilenet_v2",
}  # fmt: skip
Box = tuple[int, int, int, int]


def save_photo(path: Path, number: int) -> Box:
    """A JPEG of noise with one bright thing in it; gives the thing's x, y, width, height in pixels."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 90, (HEIGHT, WIDTH, 3), np.uint8)
    x, y = (int(side) for side in random.integers(0, 20, 2))
    pixels[y : y + 24, x : x + 32, number % 3] = 240
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "JPEG")
    return x, y, 32, 24


def write_cub(folder: Path) -> Path:
    """Two training and two test images a bird, with the list files of the set."""
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
    """Three training images a synset, and five to validate on with their XML, as the Kaggle archive unpacks."""
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
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two folders by the recipes' endings."""
    folder = tmp_path_factory.mktemp("sets")
    return {"cub": write_cub(folder / "CUB_200_2011"), "ilsvrc": write_ilsvrc(folder / "ILSVRC")}


def places_in(sets: Mapping[str, Path], name: str) -> dict[str, str]:
    """What a person tells a recipe of where the set lies."""
    kind = name.rpartition("-")[2]
    root = str(sets[kind])
    if kind == "cub":
        return {"corpus.images": root, "corpus.labels": root, "truth": root}
    xml = f"{root}/Annotations/CLS-LOC/val"
    images = {"corpus.images": f"{root}/Data/CLS-LOC/train", "test.images": f"{root}/Data/CLS-LOC/val"}
    return {**images, "test.labels": xml, "truth": xml}


def tiny(name: str, side: int = 48) -> dict[str, str]:
    """A small network and input, crops from a little more, and an epoch a stage."""
    crop = {"train.crop_from": str(side + 16)} if "crop_from" in RECIPES[name].read_text() else {}
    return {**TINY, **crop, "train.input_size": str(side), "train.epochs": "2" if "ornet" in name else "1"}


def run_recipe(name: str, out: Path, changes: Mapping[str, str]) -> int:
    told = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    return run_command(["run", str(RECIPES[name]), "--out", str(out), *told])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def mined(run: Path) -> Sequence[str]:
    return pq.read_table(run / "corpus.parquet")["file_name"].to_pylist()


def check_recipe(name: str, changes: Mapping[str, str], run: Path) -> None:
    """Run it; what is tested on is mined and scored, nothing else, by a model of the settings told."""
    assert run_recipe(name, run, changes) == 0
    training, scores = read(run / "model/model.json")["training"], read(run / "scores.json")
    seen = {"cub": (6, 3, 6), "ilsvrc": (9, 3, 5)}[name.rpartition("-")[2]]
    assert (training["images"], training["classes"], scores["corloc"]["pairs"]) == seen
    assert scores["images"]["scored"] == len(mined(run)) == seen[2]
    told = parse(RunSettings, read_recipe(RECIPES[name], changes)).train_settings()
    assert training["settings"] == told.model_dump(mode="json", exclude={"out"})
    assert (run / "report/index.html").is_file()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_from_the_set_to_its_scores(name: str, sets: Mapping[str, Path], tmp_path: Path) -> None:
    check_recipe(name, {**places_in(sets, name), **tiny(name)}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_on_its_own_network(name: str, sets: Mapping[str, Path], tmp_path: Path) -> None:
    changes = {**places_in(sets, name), **tiny(name, side=96)}
    del changes["train.backbone"]
    check_recipe(name, changes, tmp_path)


def test_no_image_is_trained_on_and_tested_on(sets: Mapping[str, Path], tmp_path: Path) -> None:
    """The test split of the lists, by name."""
    name = "msrd-cub"
    assert run_recipe(name, tmp_path, {**places_in(sets, name), **tiny(name)}) == 0
    split = dict(line.split() for line in (sets["cub"] / "train_test_split.txt").read_text().splitlines())
    names = dict(line.split() for line in (sets["cub"] / "images.txt").read_text().splitlines())
    assert sorted(mined(tmp_path)) == sorted(
        f"images/{names[i]}" for i, is_training in split.items() if is_training == "0"
    )


def test_labels_of_the_validation_images_may_be_a_csv(sets: Mapping[str, Path], tmp_path: Path) -> None:
    name = "msrd-ilsvrc"
    told = {**places_in(sets, name), **tiny(name), "test.labels": str(sets["ilsvrc"] / "val.csv")}
    assert run_recipe(name, tmp_path, {**told}) == 0
    assert read(tmp_path / "scores.json")["corloc"]["pairs"] == 5


def test_every_recipe_stands_in_the_table_and_the_other_way_round() -> None:
    rows = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("| [")]
    assert sorted(line.split("[")[1].split("]")[0] for line in rows) == sorted(RECIPES)
    assert len(RECIPES) == 10


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_as_it_stands_is_valid_and_points_below_the_project(name: str) -> None:
    settings = parse(RunSettings, read_recipe(RECIPES[name]))
    root = FOLDER.parents[2]
    for path in (settings.out, settings.corpus.images, settings.mine_settings().images, settings.truth):
        assert path is not None
        assert path.resolve().relative_to(root).parts[0] in ("runs", "data")
