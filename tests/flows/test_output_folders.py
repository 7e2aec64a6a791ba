"""No command writes into the folder of the images: it refuses before it creates anything."""

import os
from pathlib import Path

import pytest
import yaml

from flows.cli import application
from mining.corpus.image_root import check_output_outside_images
from mining.errors import InputError
from mining.runs.mining_job import plan_mining
from mining.training.job import train
from tests.factories import write_model, write_photos
from tests.sharded_corpus import mine_settings

CORPUS = {"images": "photos", "labels": "labels.csv"}
RECIPES = {
    "run": {"out": "photos/r", "corpus": CORPUS, "model": "model"},
    "trained": {"out": "photos/r", "corpus": CORPUS, "train": {}},
    "test": {"out": "others/r", "corpus": CORPUS, "test": {"images": "others", "labels": None}, "model": "model"},
    "runs": {"store": "s", "runs": "photos/rs", "corpus": CORPUS, "model": "model"},
    "store": {"store": "photos/s", "runs": "rs", "corpus": CORPUS, "model": "model"},
    "experiment": {"out": "photos/e", "corpora": {"one": {**CORPUS, "truth": "labels.csv"}}, "variants": {"a": {}}},
}
COMMANDS = [
    "train --images photos --labels labels.csv --out photos/m",
    "mine --images photos --model model --out photos/r",
    "mine --images photos --model model --out photos",
    "mine --images . --model model --out runs/x",
    "mine --images photos --model model --out link/r",
    "mine --images link --model model --out photos/deep/er/r",
    "mine --images photos --model model --out model/../photos/r",
    "run run.yaml",
    "run trained.yaml",
    "run test.yaml",
    "label runs.yaml",
    "label store.yaml",
    "experiment experiment.yaml",
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_photos(tmp_path / "photos", ["a.jpg", "b.jpg"])
    write_photos(tmp_path / "others", ["c.jpg"])
    write_model(tmp_path / "model", ("cat", "dog"))
    (tmp_path / "labels.csv").write_text("file_name,labels\na.jpg,cat\nb.jpg,dog\n")
    (tmp_path / "link").symlink_to("photos")
    for name, values in RECIPES.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def list_all(folder: Path) -> list[str]:
    return sorted(os.path.join(parent, name) for parent, folders, files in os.walk(folder) for name in folders + files)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_folder_among_the_images_is_refused_and_nothing_is_created(
    place: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = list_all(place)
    assert application.run_command(command.split()) == 2
    sentence = " ".join(capsys.readouterr().err.split())
    assert "lies in the folder of the images" in sentence
    assert "Give a folder outside of it" in sentence
    assert list_all(place) == before


def test_the_library_refuses_an_output_folder_among_the_images(place: Path) -> None:
    settings = mine_settings(place, place / "photos" / "r").model_copy(update={"images": place / "photos"})
    with pytest.raises(InputError, match="lies in the folder of the images"):
        plan_mining(settings)
    from mining.config import TrainSettings

    with pytest.raises(InputError, match="lies in the folder of the images"):
        train(TrainSettings(images=place / "photos", labels=place / "labels.csv", out=place / "photos" / "m"))


@pytest.mark.parametrize("out", ["runs/r", "photos2/r", "s3://photos/labels", "."])
def test_folders_beside_or_above_the_images_are_accepted(place: Path, out: str) -> None:
    check_output_outside_images(out, place / "photos")
