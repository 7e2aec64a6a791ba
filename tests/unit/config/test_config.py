from pathlib import Path

import pytest
from pydantic import ValidationError

from mining.config import (
    NO_LABELS,
    CorpusOverrides,
    CorpusSettings,
    ExecutionOptions,
    ListedCorpus,
    MineOptions,
    MineSettings,
    RunSettings,
    Settings,
    ShardOptions,
    TrainExecutionOptions,
    TrainOptions,
    TrainSettings,
    parse,
    setting_or_default,
)
from mining.config.recipes import read_recipe
from mining.errors import InputError

MINE = {"images": "photos", "model": "pretrained:efficientnet_lite0", "out": "run"}
RECIPE = """\
out: runs/first
corpus:
  images: photos
  labels: /lists/train.csv
train:
  epochs: 3
mine:
  scales: [1, 2]
truth: truth.json
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def error_message(kind: type, **values: object) -> str:
    with pytest.raises(InputError) as caught:
        parse(kind, values)
    return str(caught.value)


@pytest.mark.parametrize("kind", [TrainOptions, MineOptions])
def test_the_defaults_pass_their_own_validation(kind: type) -> None:
    settings = kind()
    assert kind.model_validate(settings.model_dump()) == settings
    assert kind.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("kind", [CorpusSettings, CorpusOverrides, TrainSettings, MineSettings, RunSettings])
def test_every_setting_has_a_description(kind: type) -> None:
    groups = {"corpus", "train", "mine"}
    assert [name for name, field in kind.model_fields.items() if not field.description and name not in groups] == []


@pytest.mark.parametrize(
    ("whole", "parts"),
    [
        (MineSettings, (ListedCorpus, MineOptions, ShardOptions, ExecutionOptions)),
        (TrainSettings, (ListedCorpus, TrainOptions, TrainExecutionOptions)),
    ],
)
def test_each_setting_belongs_to_one_class(whole: type[Settings], parts: tuple[type[Settings], ...]) -> None:
    names = [name for part in parts for name in part.model_fields]
    assert len(names) == len(set(names))
    assert set(whole.model_fields) - set(names) <= {"model", "out", "thresholds_from", "boxes"}


def test_execution_settings_do_not_affect_the_identity_of_a_run() -> None:
    settings = parse(MineSettings, {**MINE, "labels": "l.csv"})
    others = {"workers": 3, "device": "cpu", "retries": 0, "curves": False, "runner": "ray", "min_present": 0.0}
    assert parse(MineSettings, {**MINE, "labels": "l.csv", **others, "out": "other"}).identity() == settings.identity()
    assert not set(ExecutionOptions.model_fields) & set(settings.identity())
    assert parse(MineSettings, {**MINE, "labels": "l.csv", "map_side": 100}).identity() != settings.identity()


def test_execution_settings_do_not_affect_the_identity_of_a_training() -> None:
    settings = parse(TrainSettings, {"images": "photos", "out": "model"})
    others = {"workers": 0, "accelerator": "cpu", "devices": "2", "strategy": "ddp", "out": "other"}
    assert parse(TrainSettings, {"images": "photos", **others}).identity() == settings.identity()
    assert parse(TrainSettings, {"images": "photos", "out": "model", "seed": 1}).identity() != settings.identity()


def test_settings_are_immutable() -> None:
    settings = MineOptions()
    with pytest.raises(ValidationError):
        settings.threshold = 0.5


@pytest.mark.parametrize(
    ("given", "scales"),
    [
        ("1, 1.5,2", (1.0, 1.5, 2.0)),
        ("1", (1.0,)),
        ("1,", (1.0,)),
        (2, (2.0,)),
        ([1, 0.5], (1.0, 0.5)),
        (["1,1.5", "2"], (1.0, 1.5, 2.0)),
    ],
)
def test_scales_are_parsed_from_a_string_a_number_or_a_list(given: object, scales: tuple[float, ...]) -> None:
    assert parse(MineSettings, {**MINE, "scales": given}).scales == scales


@pytest.mark.parametrize("given", ["", "1,x", "0", "-1", "9", "nan", "inf", []])
def test_invalid_scales_are_rejected_with_the_name_of_the_setting(given: object) -> None:
    assert "scales" in error_message(MineSettings, **MINE, scales=given)


def test_a_list_with_a_wrong_item_is_not_said_to_be_too_short() -> None:
    message = error_message(MineSettings, **MINE, scales="0")
    assert "Setting 'scales.0'" in message
    assert "at least 1 item" not in message
    assert "at least 1 item" in error_message(MineSettings, **MINE, scales=[])


def test_an_unknown_setting_is_rejected_with_a_suggestion() -> None:
    message = error_message(MineSettings, **MINE, treshold=0.3)
    assert "Unknown setting 'treshold'" in message
    assert "did you mean 'threshold'?" in message


def test_the_suggestion_for_an_unknown_setting_comes_from_its_group() -> None:
    message = error_message(RunSettings, out="run", corpus={"images": "photos"}, train={"epoch": 3})
    assert "Unknown setting 'train.epoch'" in message
    assert "did you mean 'epochs'?" in message
    assert "max_aspect" not in message


def test_the_error_for_a_value_out_of_range_shows_setting_and_value() -> None:
    message = error_message(MineSettings, **MINE, threshold=1.5)
    assert "'threshold'" in message
    assert "1.5" in message


@pytest.mark.parametrize("given", ["otsy", "", 0, 1, "1.0", [0.5], "nan"])
def test_an_invalid_threshold_is_rejected_with_the_allowed_values(given: object) -> None:
    message = error_message(MineSettings, **MINE, threshold=given)
    assert message.startswith("Setting 'threshold': Input should be greater than 0 and less than 1, or one of otsu, ")
    assert message.endswith(f"(got {given!r}).")


@pytest.mark.parametrize(("given", "read"), [("otsu", "otsu"), ("0.4", 0.4), (0.4, 0.4), (None, None)])
def test_valid_thresholds_are_parsed(given: object, read: object) -> None:
    assert parse(MineSettings, {**MINE, "threshold": given}).threshold == read


def test_a_setting_missing_from_an_older_record_has_its_default() -> None:
    assert setting_or_default(MineOptions, {}, "merge") == "nms"
    assert setting_or_default(MineOptions, {"merge": "wbf"}, "merge") == "wbf"
    assert setting_or_default(MineOptions, {}, "class_thresholds") == {}
    assert setting_or_default(MineOptions, {"model_sha256": "a"}, "model_sha256") == "a"


def test_the_error_names_a_missing_setting() -> None:
    assert "'model'" in error_message(MineSettings, images="photos", out="run")


def test_each_invalid_setting_gets_its_own_sentence() -> None:
    message = error_message(MineSettings, **MINE, threshold=2, merge="soft", workers=0)
    assert all(f"Setting '{name}'" in message for name in ("threshold", "merge", "workers"))


def test_infinite_numbers_are_rejected() -> None:
    assert "max_aspect" in error_message(MineSettings, **MINE, max_aspect=float("inf"))


def test_a_recipe_gives_the_settings_for_training_and_mining(recipe: Path) -> None:
    settings = parse(RunSettings, read_recipe(recipe))
    folder = recipe.parent
    train, mine = settings.train_settings(), settings.mine_settings()
    assert (train.images, train.epochs, train.out) == (folder / "photos", 3, folder / "runs/first/model")
    assert (mine.images, mine.scales, mine.out) == (folder / "photos", (1.0, 2.0), folder / "runs/first")
    assert mine.model == str(train.out)


def test_relative_paths_in_a_recipe_are_resolved_against_its_folder(recipe: Path) -> None:
    settings = parse(RunSettings, read_recipe(recipe))
    assert settings.out == recipe.parent / "runs/first"
    assert settings.truth == recipe.parent / "truth.json"
    assert settings.corpus.labels == Path("/lists/train.csv")


def test_the_weights_path_in_a_recipe_is_resolved_against_its_folder(recipe: Path) -> None:
    recipe.write_text("out: run\ncorpus: {images: photos}\ntrain:\n  weights: weights/vgg16.pth\n")
    assert parse(RunSettings, read_recipe(recipe)).train.weights == str(recipe.parent / "weights/vgg16.pth")


@pytest.mark.parametrize("weights", ["imagenet", "none"])
def test_weights_keywords_are_not_treated_as_paths(recipe: Path, weights: str) -> None:
    recipe.write_text(f"out: run\ncorpus: {{images: photos}}\ntrain:\n  weights: {weights}\n")
    assert parse(RunSettings, read_recipe(recipe)).train.weights == weights


def test_values_that_only_look_like_paths_are_unchanged(recipe: Path) -> None:
    recipe.write_text("out: run\nmodel: pretrained:resnet50\ncorpus:\n  images: photos\n  labels: none\n")
    settings = parse(RunSettings, read_recipe(recipe))
    assert settings.model == "pretrained:resnet50"
    assert settings.corpus.labels == NO_LABELS


def test_the_home_directory_is_expanded(recipe: Path) -> None:
    recipe.write_text("out: ~/runs/first\ncorpus: {images: photos}\n")
    assert parse(RunSettings, read_recipe(recipe)).out == Path.home() / "runs/first"


def test_an_override_replaces_the_recipe_value_and_is_parsed_as_yaml(recipe: Path) -> None:
    values = read_recipe(
        recipe, {"train.epochs": "7", "mine.scales": "[1]", "corpus.split": "train", "train.freeze": "no"}
    )
    settings = parse(RunSettings, values)
    assert settings.train.epochs == 7
    assert settings.train.freeze is False
    assert settings.mine.scales == (1.0,)
    assert settings.corpus.split == "train"


def test_an_override_creates_a_missing_group(recipe: Path) -> None:
    recipe.write_text("out: run\ncorpus:\n  images: photos\n")
    assert parse(RunSettings, read_recipe(recipe, {"mine.threshold": "0.4"})).mine.threshold == 0.4


def test_an_overridden_path_is_relative_to_the_working_directory(recipe: Path) -> None:
    assert parse(RunSettings, read_recipe(recipe, {"out": "here"})).out == Path("here")


def test_an_override_below_a_scalar_is_rejected(recipe: Path) -> None:
    with pytest.raises(InputError, match=r"--set out\.folder: 'out' holds a value"):
        read_recipe(recipe, {"out.folder": "x"})


def test_an_override_with_invalid_yaml_is_rejected_with_its_key(recipe: Path) -> None:
    with pytest.raises(InputError, match=r"--set mine\.scales"):
        read_recipe(recipe, {"mine.scales": "[1, 2"})


def test_an_unknown_override_is_rejected_with_a_suggestion(recipe: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'max_aspect'"):
        parse(RunSettings, read_recipe(recipe, {"mine.max_aspct": "3"}))


@pytest.mark.parametrize("text", ["out: [1, 2", "a: b: c", "\t- x", "!!python/object/apply:os.getcwd []"])
def test_a_recipe_with_invalid_yaml_is_rejected_with_its_file_name(recipe: Path, text: str) -> None:
    recipe.write_text(text)
    with pytest.raises(InputError, match=r"recipe\.yaml is not YAML") as caught:
        read_recipe(recipe)
    assert "\n" not in str(caught.value)


def test_a_binary_recipe_is_rejected(recipe: Path) -> None:
    recipe.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="is not YAML"):
        read_recipe(recipe)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_recipe_without_settings_is_rejected(recipe: Path, text: str) -> None:
    recipe.write_text(text)
    with pytest.raises(InputError, match="must hold settings"):
        read_recipe(recipe)


def test_a_missing_recipe_is_rejected_with_its_file_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml: No such file"):
        read_recipe(tmp_path / "nothing.yaml")


def test_a_folder_is_rejected_as_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder"):
        read_recipe(tmp_path)


def test_a_recipe_cannot_have_both_a_model_and_a_training() -> None:
    message = error_message(RunSettings, out="run", corpus={"images": "photos"}, model="pretrained:resnet50", train={})
    assert "either `model` or `train`" in message


def test_a_recipe_with_a_model_uses_it_for_mining(recipe: Path) -> None:
    recipe.write_text("out: run\nmodel: models/first\ncorpus:\n  images: photos\n")
    settings = parse(RunSettings, read_recipe(recipe))
    assert settings.mine_settings().model == str(recipe.parent / "models/first")


# --- training and mining on different images -------------------------------------------------------------------------


def train_and_mine_settings(recipe: Path, text: str, **changes: str) -> tuple[TrainSettings, MineSettings]:
    recipe.write_text("out: run\ncorpus: {images: photos, labels: lists, split: train}\n" + text)
    settings = parse(RunSettings, read_recipe(recipe, {key.replace("_", "."): value for key, value in changes.items()}))
    return settings.train_settings(), settings.mine_settings()


def test_by_default_the_training_images_are_mined(recipe: Path) -> None:
    train, mine = train_and_mine_settings(recipe, "")
    assert (train.images, train.labels, train.split) == (mine.images, mine.labels, mine.split)


def test_a_different_split_of_the_same_corpus_can_be_mined(recipe: Path) -> None:
    train, mine = train_and_mine_settings(recipe, "test: {split: test}\n")
    assert (train.split, mine.split) == ("train", "test")
    assert (
        (mine.images, mine.labels)
        == (train.images, train.labels)
        == (recipe.parent / "photos", recipe.parent / "lists")
    )


def test_a_corpus_override_applies_to_training_and_mining(recipe: Path) -> None:
    train, mine = train_and_mine_settings(recipe, "test: {split: test}\n", corpus_images="elsewhere")
    assert train.images == mine.images == Path.cwd() / "elsewhere"


def test_different_images_with_different_labels_can_be_mined(recipe: Path) -> None:
    train, mine = train_and_mine_settings(recipe, "test: {images: val, labels: xml, split: null}\n")
    assert (train.images, train.split) == (recipe.parent / "photos", "train")
    assert (mine.images, mine.labels, mine.split) == (recipe.parent / "val", recipe.parent / "xml", None)


def test_images_can_be_mined_without_the_training_labels(recipe: Path) -> None:
    assert train_and_mine_settings(recipe, "test: {images: val, labels: none, split: null}\n")[1].labels == Path("none")
    assert train_and_mine_settings(recipe, "test: {images: val, labels: null, split: null}\n")[1].labels is None


def test_the_suggestion_for_an_unknown_test_setting_comes_from_its_group(recipe: Path) -> None:
    with pytest.raises(InputError, match=r"Unknown setting 'test\.spilt': .*'split'"):
        train_and_mine_settings(recipe, "test: {spilt: test}\n")


def test_a_record_older_than_a_setting_stands_for_what_its_version_did() -> None:
    assert setting_or_default(MineSettings, {}, "refine") == "none"
    assert setting_or_default(TrainOptions, {}, "cells") is False
    assert setting_or_default(MineSettings, {"refine": None}, "refine") is None
    assert setting_or_default(MineSettings, {}, "max_classes") == 5


@pytest.mark.parametrize("given", [10, "10"])
def test_the_number_of_crops_may_be_text(given: int | str) -> None:
    assert parse(MineSettings, {**MINE, "class_crops": given}).class_crops == 10


@pytest.mark.parametrize("given", [5, "ten", "1.0"])
def test_another_number_of_crops_is_refused(given: int | str) -> None:
    with pytest.raises(InputError, match="'class_crops': Input should be 1 or 10"):
        parse(MineSettings, {**MINE, "class_crops": given})
