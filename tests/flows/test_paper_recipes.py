"""The recipes of papers, run from end to end on a few small images in the layout of CUB-200-2011, ILSVRC or VOC."""

import csv
import json
import subprocess
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
from mining.experiments import ExperimentSettings, make_cells
from mining.experiments.measurement import validate_cells
from mining.localizers.option_values import options_of
from mining.training.localizer_defaults import RESTART_RATE

FOLDER = Path(__file__).parents[2] / "deployments/recipes/papers"
RECIPES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
TABLES = {path.stem: path for path in sorted((FOLDER / "tables").glob("*.yaml"))}
# recipes that take the model of another one, and the setting that names it
FOLLOWS = {
    "ornet-cub": ("train.evaluator", "ornet-cub-evaluator"),
    "ornet-ilsvrc": ("train.evaluator", "ornet-ilsvrc-evaluator"),
    "mldfr-voc2007-corloc": ("model", "mldfr-voc2007"),
}
WITHOUT_TRAINING = ("msrd-ilsvrc", "mldfr-voc2007-corloc")
BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
SYNSETS = ("n01440764", "n01443537", "n01484850")
VOC_CLASSES = ("aeroplane", "bicycle", "bird")
HEIGHT, WIDTH = 48, 64
# the smallest settings that run every part
TINY = {
    "train.weights": "none", "train.freeze": "false", "train.batch_size": "4", "train.workers": "0",
    "train.accelerator": "cpu", "mine.device": "cpu", "mine.workers": "1", "train.backbone": "mobilenet_v2",
}  # fmt: skip
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


def write_voc(folder: Path, years: str, count: int, first: int) -> Path:
    """Write images and XML as VOC's archives unpack: two objects each, the second one of the next class and difficult."""
    for number in range(first, first + count):
        stem = f"{years}_{number:06d}"
        x, y, w, h = save_photo(folder / "JPEGImages" / f"{stem}.jpg", number)
        objects = "".join(
            f"<object><name>{VOC_CLASSES[(number + place) % 3]}</name><difficult>{place}</difficult><bndbox>"
            f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for place in range(2)
        )
        xml = folder / "Annotations" / f"{stem}.xml"
        xml.parent.mkdir(parents=True, exist_ok=True)
        xml.write_text(
            f"<annotation><folder>VOC</folder><filename>{stem}.jpg</filename>"
            f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>{objects}</annotation>"
        )
    return folder


def write_voc_lists(folder: Path, split: str, images: range) -> None:
    """Write ImageSets/Main as released: 1 shown, 0 difficult only, -1 not shown."""
    lists = folder / "ImageSets/Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("".join(f"2008_{number:06d}\n" for number in images))
    for place, name in enumerate(VOC_CLASSES):
        shown = {number: {0: "1", 1: " 0"}.get((place - number) % 3, "-1") for number in images}
        rows = "".join(f"2008_{number:06d} {flag:>2}\n" for number, flag in shown.items())
        (lists / f"{name}_{split}.txt").write_text(rows)


def write_voc2012(folder: Path) -> Path:
    """Write the dataset, and the CSV files by the commands of the recipes' README."""
    write_voc(folder, "2008", 9, 0)
    write_voc_lists(folder, "train", range(5))
    write_voc_lists(folder, "val", range(5, 9))
    readme = (FOLDER / "README.md").read_text()
    commands = readme[readme.index("for split in train val") : readme.index("done\n") + 4]
    subprocess.run(["bash", "-e", "-c", commands], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of the datasets, by the words in the recipes' names."""
    folder = tmp_path_factory.mktemp("datasets")
    write_voc(folder / "VOC2007/trainval", "000", 6, 0)
    write_voc(folder / "VOC2007/test", "000", 4, 20)
    return {
        "cub": write_cub(folder / "CUB_200_2011"), "ilsvrc": write_ilsvrc(folder / "ILSVRC"),
        "voc2007": folder / "VOC2007", "voc2012": write_voc2012(folder / "VOC2012"),
    }  # fmt: skip


def dataset_of(name: str) -> str:
    return next(word for word in ("cub", "ilsvrc", "voc2007", "voc2012") if word in name.split("-"))


def paths_in(datasets: Mapping[str, Path], name: str) -> dict[str, str]:
    """Build the changes that give a recipe the paths of its dataset."""
    kind = dataset_of(name)
    root = str(datasets[kind])
    if kind == "cub":
        return {"corpus.images": root, "corpus.labels": root, "truth": root}
    if kind == "voc2012":
        lists = {"corpus.labels": f"{root}/train.csv", "test.labels": f"{root}/val.csv"}
        return {"corpus.images": f"{root}/JPEGImages", **lists, "truth": f"{root}/Annotations"}
    if kind == "voc2007":
        both = {"corpus.images": f"{root}/trainval/JPEGImages", "corpus.labels": f"{root}/trainval/Annotations"}
        if name in WITHOUT_TRAINING:
            return {**both, "truth": f"{root}/trainval/Annotations"}
        return {**both, "test.images": f"{root}/test/JPEGImages", "truth": f"{root}/test/Annotations"}
    xml = f"{root}/Annotations/CLS-LOC/val"
    if name in WITHOUT_TRAINING:
        return {"corpus.images": f"{root}/Data/CLS-LOC/val", "corpus.labels": xml, "truth": xml}
    images = {"corpus.images": f"{root}/Data/CLS-LOC/train", "test.images": f"{root}/Data/CLS-LOC/val"}
    return {**images, "test.labels": xml, "truth": xml}


def tiny_settings(name: str, side: int = 48) -> dict[str, str]:
    """Build the changes to a small network and input, slightly larger crops, and one epoch per stage."""
    if name in WITHOUT_TRAINING:
        return {key: value for key, value in TINY.items() if key.startswith("mine.")}
    crop = {"train.crop_from": str(side + 16)} if "crop_from" in RECIPES[name].read_text() else {}
    has_stages = FOLLOWS.get(name, ("",))[0] == "train.evaluator"
    return {**TINY, **crop, "train.input_size": str(side), "train.epochs": "2" if has_stages else "1"}


def run_recipe(name: str, out: Path, changes: Mapping[str, str]) -> int:
    options = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    return run_command(["run", str(RECIPES[name]), "--out", str(out), *options])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def mined(run: Path) -> Sequence[str]:
    return pq.read_table(run / "corpus.parquet")["file_name"].to_pylist()


COUNTS = {"cub": (6, 3, 6), "ilsvrc": (9, 3, 5), "voc2007": (6, 3, 4), "voc2012": (5, 3, 4)}


def check_recipe(name: str, changes: Mapping[str, str], run: Path) -> None:
    """Run a recipe; only the test images are mined and scored, by a model of the given settings."""
    assert run_recipe(name, run, changes) == 0
    training, scores = read(run / "model/model.json")["training"], read(run / "scores.json")
    counts = COUNTS[dataset_of(name)]
    assert (training["images"], training["classes"], scores["corloc"]["pairs"]) == counts
    assert scores["images"]["scored"] == len(mined(run)) == counts[2]
    settings = parse(RunSettings, read_recipe(RECIPES[name], changes)).train_settings()
    options = options_of(settings.localizer, settings.options)
    given = settings.model_copy(update={"options": options}).model_dump(mode="json", exclude={"out"})
    expected = {
        **given, "views": training["settings"]["views"],
        "restart_rate": given["restart_rate"] or RESTART_RATE,  # of no effect without a restart
    }  # fmt: skip
    assert training["settings"] == expected, "no default of the localizer takes the place of a setting"
    assert (run / "report/index.html").is_file()


def with_model_of_another(
    name: str, changes: dict[str, str], datasets: Mapping[str, Path], folder: Path
) -> dict[str, str]:
    """Run the recipe whose model this one takes, if any; returns the changes with that model."""
    if name not in FOLLOWS:
        return changes
    key, other = FOLLOWS[name]
    backbone = {key: value for key, value in changes.items() if key == "train.backbone"}
    settings = {**tiny_settings(other, side=int(changes.get("train.input_size", 48))), **backbone}
    if name not in WITHOUT_TRAINING and "train.backbone" not in changes:
        del settings["train.backbone"]
    assert run_recipe(other, folder / other, {**paths_in(datasets, other), **settings}) == 0
    return {**changes, key: str(folder / other / "model")}


TRAINED = [name for name in RECIPES if name not in WITHOUT_TRAINING]
# each localizer once; tests below run further ones
FAST = ("spg-cub", "mldfr-ilsvrc")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in TRAINED]
)
def test_a_recipe_runs_from_the_dataset_to_its_scores(name: str, datasets: Mapping[str, Path], tmp_path: Path) -> None:
    changes = {**paths_in(datasets, name), **tiny_settings(name)}
    check_recipe(name, with_model_of_another(name, changes, datasets, tmp_path), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_recipe_runs_on_its_own_backbone(name: str, datasets: Mapping[str, Path], tmp_path: Path) -> None:
    changes = {**paths_in(datasets, name), **tiny_settings(name, side=96)}
    del changes["train.backbone"]
    check_recipe(name, with_model_of_another(name, changes, datasets, tmp_path), tmp_path / "run")


@pytest.mark.slow
def test_mldfr_on_cub_starts_from_the_network_trained_on_ilsvrc(datasets: Mapping[str, Path], tmp_path: Path) -> None:
    first, second = ({**paths_in(datasets, name), **tiny_settings(name)} for name in ("mldfr-ilsvrc", "mldfr-cub"))
    assert run_recipe("mldfr-ilsvrc", tmp_path / "ilsvrc", first) == 0
    check_recipe("mldfr-cub", {**second, "train.weights": str(tmp_path / "ilsvrc/model")}, tmp_path / "cub")
    notes = read(tmp_path / "cub/model/model.json")["training"]["notes"]
    assert any("started from the model" in note for note in notes)


@pytest.mark.slow
def test_mldfr_is_scored_as_a_detector_on_voc2007_and_by_corloc_on_its_training_images(
    datasets: Mapping[str, Path], tmp_path: Path
) -> None:
    name = "mldfr-voc2007"
    check_recipe(name, {**paths_in(datasets, name), **tiny_settings(name)}, tmp_path / name)
    voc = read(tmp_path / name / "scores.json")["voc"]
    assert list(voc["at_iou"]) == ["0.3", "0.1"]
    assert 0 <= voc["AP_11_point"] <= voc["at_iou"]["0.3"]["AP_11_point"] <= voc["at_iou"]["0.1"]["AP_11_point"]
    labels = pq.read_table(tmp_path / name / "corpus.parquet")["labels"].to_pylist()
    assert labels == [None] * 4, "a detector is not given the classes"
    corloc = "mldfr-voc2007-corloc"
    changes = {**paths_in(datasets, corloc), **tiny_settings(corloc), "model": str(tmp_path / name / "model")}
    assert run_recipe(corloc, tmp_path / corloc, changes) == 0
    assert read(tmp_path / corloc / "scores.json")["corloc"]["pairs"] == len(mined(tmp_path / corloc)) == 6


def test_msrd_on_ilsvrc_takes_an_unmodified_classifier(datasets: Mapping[str, Path], tmp_path: Path) -> None:
    name = "msrd-ilsvrc"
    changes = {
        **paths_in(datasets, name), **tiny_settings(name), "model": "pretrained:squeezenet1_1", "mine.weights": "none",
    }  # fmt: skip
    assert run_recipe(name, tmp_path, changes) == 0
    scores, card = read(tmp_path / "scores.json"), read(tmp_path / "model/model.json")
    assert scores["corloc"]["pairs"] == 5
    assert scores["localization"]["top5_loc"] is not None
    assert card["own_head"]
    assert [one["name"] for one in card["classes"][:2]] == list(SYNSETS[:2])


def test_loc_on_voc2012_is_printed_by_score(
    datasets: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "msrd-voc2012"
    assert (datasets["voc2012"] / "train.csv").read_text().splitlines()[0] == "file_name,labels"
    assert "2008_000001.jpg,bicycle" in (datasets["voc2012"] / "train.csv").read_text()
    check_recipe(name, {**paths_in(datasets, name), **tiny_settings(name)}, tmp_path)
    capsys.readouterr()
    assert run_command(["score", str(tmp_path), "--truth", str(datasets["voc2012"] / "Annotations"), "--maps"]) == 0
    assert "Loc(0.25)" in capsys.readouterr().out
    assert 0 < read(tmp_path / "scores.json")["maps"]["loc"]["value"] < 1


def test_training_and_test_images_are_disjoint(datasets: Mapping[str, Path], tmp_path: Path) -> None:
    """The mined images are the test split of the lists."""
    name = "msrd-cub"
    assert run_recipe(name, tmp_path, {**paths_in(datasets, name), **tiny_settings(name)}) == 0
    split = dict(line.split() for line in (datasets["cub"] / "train_test_split.txt").read_text().splitlines())
    names = dict(line.split() for line in (datasets["cub"] / "images.txt").read_text().splitlines())
    assert sorted(mined(tmp_path)) == sorted(
        f"images/{names[i]}" for i, is_training in split.items() if is_training == "0"
    )


@pytest.mark.slow
def test_labels_of_the_validation_images_may_be_a_csv(datasets: Mapping[str, Path], tmp_path: Path) -> None:
    name = "vggnet-ccam-ilsvrc"
    changes = {**paths_in(datasets, name), **tiny_settings(name), "test.labels": str(datasets["ilsvrc"] / "val.csv")}
    assert run_recipe(name, tmp_path, changes) == 0
    assert read(tmp_path / "scores.json")["corloc"]["pairs"] == 5


def test_the_tables_list_exactly_the_recipes() -> None:
    rows = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("| [")]
    assert sorted(line.split("[")[1].split("]")[0] for line in rows) == sorted([*RECIPES, *TABLES])


@pytest.mark.parametrize("name", RECIPES)
def test_an_unchanged_recipe_is_valid_and_stays_in_the_project(name: str) -> None:
    settings = parse(RunSettings, read_recipe(RECIPES[name]))
    root = FOLDER.parents[2]
    model = Path(settings.model) if settings.model and not settings.model.startswith("pretrained:") else settings.out
    files = [settings.out, settings.corpus.images, settings.mine_settings().images, settings.truth, model]
    for path in (*files, settings.train.evaluator or settings.out):
        assert path is not None
        assert path.resolve().relative_to(root).parts[0] in ("runs", "data")


@pytest.mark.parametrize("name", RECIPES)
def test_no_default_decides_which_boxes_there_are(name: str) -> None:
    """The papers draw a box around each region and merge none; boxmine's defaults drop and merge some."""
    mine = parse(RunSettings, read_recipe(RECIPES[name])).mine_settings()
    assert (mine.refine, mine.min_area, mine.merge, mine.min_score) == ("none", 0, "none", 0)
    assert mine.map_side >= 1_000_000
    assert {"scales", "normalise"} <= mine.model_fields_set


# --- tables and figures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_valid_and_trains_as_the_papers_recipe(name: str) -> None:
    settings = parse(ExperimentSettings, read_recipe(TABLES[name]))
    cells = make_cells(settings)
    validate_cells(cells)
    assert f"boxmine experiment {TABLES[name].relative_to(FOLDER.parents[2])}" in TABLES[name].read_text()
    recipe = parse(RunSettings, read_recipe(RECIPES[f"{name.split('-')[0]}-cub"]))
    baseline = next(cell for cell in cells if cell.variant == settings.baseline)
    left_out = {"out", "weights", "input_size", "images", "labels", "workers"}  # VGG16's input size is 224 px
    assert baseline.train.model_dump(exclude=left_out) == recipe.train_settings().model_dump(exclude=left_out)
    mined_alike = {"refine", "threshold", "normalise", "min_area", "max_aspect", "merge", "map_side"}
    assert baseline.mine.model_dump(include=mined_alike) == recipe.mine_settings().model_dump(include=mined_alike)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_table_runs_on_a_few_images(name: str, datasets: Mapping[str, Path], tmp_path: Path) -> None:
    root = str(datasets["cub"])
    corpus = {"images": root, "labels": root, "split": "train", "test": {"split": "test"}, "truth": root}
    settings = parse(ExperimentSettings, read_recipe(TABLES[name]))
    changes = [f"corpora={json.dumps({'cub': corpus})}", "train.epochs=2", "train.input_size=96", "train.weights=none"]
    changes += ["train.workers=0", "train.accelerator=cpu", "mine.device=cpu", "mine.workers=1", "train.batch_size=6"]
    variants = dict(settings.variants)
    if name.startswith("ornet"):
        quick = {**tiny_settings("ornet-cub-evaluator", side=96), "train.epochs": "1"}
        assert run_recipe("ornet-cub-evaluator", tmp_path / "first", {**paths_in(datasets, "ornet-cub"), **quick}) == 0
        changes += [f"train.evaluator={tmp_path / 'first/model'}", "train.backbone=mobilenet_v2", "train.crop_from=112"]
        variants = {one: variants[one] for one in (settings.baseline, "alpha 0.5, beta 0.04")}
        kept = {one: {"train": variant.train} for one, variant in variants.items()}
        changes.append(f"variants={json.dumps(kept)}")
    else:
        sizes = [one for one, variant in variants.items() if "crop_from" in variant.train]
        changes += [f"variants.{one}.train.{key}=96" for one in sizes for key in ("input_size", "crop_from")]
        changes.append("train.options.extra_channels=16")
    options = [text for change in changes for text in ("--set", change)]
    assert run_command(["experiment", str(TABLES[name]), "--out", str(tmp_path / "out"), *options]) == 0
    assert {row["variant"] for row in read(tmp_path / "out/table.json")} == variants.keys()
