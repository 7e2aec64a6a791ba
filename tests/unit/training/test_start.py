"""What a training starts from: another model, and ORNet's evaluator."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from mining.config import TrainSettings, parse
from mining.errors import ModelError
from mining.models.card import read_card
from mining.models.checkpoint import build_localizer
from mining.preflight import check_training
from mining.training import job as training_job
from mining.training.start import build_to_train
from mining.training.summary import TrainingSummary

COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
ATTENTION = {"localizer": "mldfr", "options": {"attention_start": "random"}}


def write_photos(folder: Path, classes: tuple[str, ...]) -> Path:
    """One folder per class with four images of 48 x 48 px."""
    random = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 50, (48, 48, 3), np.uint8) + np.array(COLOURS[name], np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def settings_of(folder: Path, classes: tuple[str, ...] = ("red", "green", "blue"), **options: Any) -> TrainSettings:
    images = folder / "-".join(classes)
    if not images.exists():
        write_photos(images, classes)
    quick: dict[str, Any] = {
        "images": images, "out": folder / "model", "backbone": "mobilenet_v2", "weights": "none", "freeze": False,
        "epochs": 1, "batch_size": 4, "workers": 0, "accelerator": "cpu", "validation_share": 0, "cells": False,
        "input_size": 64, "flip": False, "colour": False,
    }  # fmt: skip
    return parse(TrainSettings, {**quick, **options})


def train(folder: Path, *args: Any, **options: Any) -> TrainingSummary:
    return training_job.train(settings_of(folder, *args, **options))


def started(folder: Path, first: Path, *args: Any, **options: Any) -> tuple[dict[str, Tensor], list[str]]:
    """The weights that a training which starts from the model `first` has before its first step."""
    settings = settings_of(folder, *args, weights=str(first), **options)
    card = read_card(first)
    listed = [{"id": number, "name": name} for number, name in enumerate(sorted(args[0] if args else COLOURS), start=1)]
    torch.manual_seed(9)
    localizer, notes = build_to_train(
        type(card)(settings.localizer, settings.backbone, "single", listed, 64, {}, dict(settings.options)), settings
    )
    return localizer.state_dict(), notes


# --- another model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A changed network, as mLDFR trains it on ILSVRC first."""
    folder = tmp_path_factory.mktemp("pretrained")
    return train(folder, **ATTENTION).folder


def test_a_training_starts_from_all_layers_of_another_model(pretrained: Path, tmp_path: Path) -> None:
    state, notes = started(tmp_path, pretrained, **ATTENTION)
    kept = load_file(pretrained / "weights.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in kept.items())
    assert notes == [f"The training started from the model {pretrained}."]


def test_layers_of_another_number_of_classes_start_anew(pretrained: Path, tmp_path: Path) -> None:
    state, notes = started(tmp_path, pretrained, ("red", "blue"), **ATTENTION)
    kept = load_file(pretrained / "weights.safetensors")
    same = {
        name for name, value in kept.items() if value.shape == state[name].shape and torch.equal(value, state[name])
    }
    assert {name.rpartition(".")[0] for name in kept.keys() - same} == {"classifier"}
    assert any(name.startswith("attention.") for name in same)
    assert notes[0].endswith("so these layers were initialised again: classifier.")


def test_the_second_training_runs_and_records_what_it_started_from(pretrained: Path, tmp_path: Path) -> None:
    summary = train(tmp_path, ("red", "blue"), weights=str(pretrained), **ATTENTION)
    assert any(f"started from the model {pretrained}" in note for note in summary.notes)
    assert read_card(summary.folder).training["settings"]["weights"] == str(pretrained)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"localizer": "cam"}, "is mldfr on mobilenet_v2, this training cam on mobilenet_v2"),
        ({**ATTENTION, "backbone": "resnet50"}, "is mldfr on mobilenet_v2, this training mldfr on resnet50"),
    ],
)
def test_a_model_of_another_localizer_or_backbone_is_refused_without_torch(
    pretrained: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        check_training(settings_of(tmp_path, weights=str(pretrained), **options))


def test_a_model_with_other_layers_is_refused_with_the_options_that_fit(pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has other layers than this training, e\.g\. attention\..*'attention_start'"):
        started(tmp_path, pretrained, localizer="mldfr", options={"attention": False})


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No weights file or model folder"):
        check_training(settings_of(tmp_path, weights=str(tmp_path / "none")))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a boxmine model"):
        check_training(settings_of(tmp_path, weights=str(tmp_path)))


# --- ORNet's evaluator -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    return train(folder, localizer="cam", epochs=2).folder


def of_evaluator(folder: Path) -> dict[str, Tensor]:
    state = load_file(folder / "weights.safetensors")
    return {name.removeprefix("evaluator."): value for name, value in state.items() if name.startswith("evaluator.")}


def test_a_trained_evaluator_is_fixed_in_both_stages(classifier: Path, tmp_path: Path) -> None:
    summary = train(tmp_path, localizer="ornet", evaluator=str(classifier), epochs=2)
    expected, kept = load_file(classifier / "weights.safetensors"), of_evaluator(summary.folder)
    assert kept.keys() == expected.keys()
    assert all(torch.equal(value, kept[name]) for name, value in expected.items())
    header, *epochs = (summary.folder / "history.csv").read_text().splitlines()
    assert len(epochs) == 2
    assert "train_evaluator" not in header.split(",")
    assert {"train_auxiliary", "train_evaluation"} <= set(header.split(","))
    assert f"The evaluator is the model {classifier}, which was not trained further." in summary.notes


def test_without_one_the_evaluator_learns_in_stage_one(tmp_path: Path) -> None:
    summary = train(tmp_path, localizer="ornet", epochs=2)
    assert "train_evaluator" in (summary.folder / "history.csv").read_text().splitlines()[0].split(",")


def test_its_classes_may_be_in_another_order(classifier: Path, tmp_path: Path) -> None:
    names = ["red", "blue", "green"]
    card = read_card(classifier)
    assert card.class_names == ["blue", "green", "red"]
    listed = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    wanted = type(card)("ornet", "mobilenet_v2", "single", listed, 64, {})
    localizer, _ = build_to_train(wanted, settings_of(tmp_path, localizer="ornet", evaluator=str(classifier)))
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    original, _ = build_localizer(card)
    original.load_state_dict(load_file(classifier / "weights.safetensors"))
    with torch.inference_mode():
        expected, found = original.eval()(image), localizer.eval()(image)
    order = [card.class_names.index(name) for name in names]
    assert torch.allclose(found, expected[:, order], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"localizer": "cam"}, "--evaluator is for --localizer ornet; cam has no evaluator"),
        ({"localizer": "ornet", "backbone": "resnet50"}, "has the backbone mobilenet_v2, this training resnet50"),
    ],
)
def test_an_evaluator_that_cannot_be_one_is_refused_without_torch(
    classifier: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        check_training(settings_of(tmp_path, evaluator=str(classifier), **options))


def test_an_evaluator_that_is_no_classifier_is_refused(pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a model of mldfr; give a classifier, a model of one of: cam, ccam"):
        check_training(settings_of(tmp_path, localizer="ornet", evaluator=str(pretrained)))


def test_an_evaluator_of_other_classes_is_refused_and_the_folder_stays_free(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has other classes than this training, e\.g\. 'green'"):
        train(tmp_path, ("red", "blue"), localizer="ornet", evaluator=str(classifier))
    assert not (tmp_path / "model").exists()


def test_an_interrupted_training_with_an_evaluator_resumes_to_the_same_weights(
    classifier: Path, tmp_path: Path
) -> None:
    def stop_at_4(done: int, *_: object) -> None:
        if done == 4:
            raise OSError("the lights went out")

    options: dict[str, Any] = {"localizer": "ornet", "evaluator": str(classifier), "epochs": 2}
    undisturbed = train(tmp_path / "undisturbed", **options)
    settings = settings_of(tmp_path / "stopped", **options)
    with pytest.raises(OSError, match="the lights went out"):
        training_job.train(settings, stop_at_4)
    resumed = training_job.train(settings)
    expected, found = (load_file(one.folder / "weights.safetensors") for one in (undisturbed, resumed))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
