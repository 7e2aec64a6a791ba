"""Names that become file and folder names."""

from typing import Any

import pytest

from mining.config import parse
from mining.errors import InputError
from mining.experiments import ExperimentSettings
from mining.label_store.settings import LabelSettings
from mining.storage.names import slugify, validate_folder_name

LEADING_OUT = (
    ".",
    "..",
    "",
    "a/b",
    "/a",
    "a\\b",
    "../a",
    ".hidden",
    "-a",
    " a",
    "a ",
    "a\n",
    "a\0b",
    "x" * 121,
    "ä" * 61,
)


def label(name: str) -> LabelSettings:
    return parse(LabelSettings, {"name": name, "store": "s", "runs": "r", "corpus": {"images": "i"}, "model": "m"})


def experiment(**changes: Any) -> ExperimentSettings:
    corpus = {"images": "i", "truth": "t"}
    return parse(ExperimentSettings, {"out": "o", "corpora": {"a": corpus}, "variants": {"cam": {}}, **changes})


@pytest.mark.parametrize("name", LEADING_OUT)
def test_unsafe_folder_names_are_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="names a folder"):
        validate_folder_name(name)
    for refuse in (
        lambda: label(name),
        lambda: experiment(corpora={name: {"images": "i", "truth": "t"}}),
        lambda: experiment(variants={name: {}}),
    ):
        with pytest.raises(InputError, match="names a folder"):
            refuse()


@pytest.mark.parametrize("name", ["images", "shop-2", "1.5", "läden", "cam, as published", "+", "a" * 120])
def test_safe_folder_names_are_accepted(name: str) -> None:
    assert validate_folder_name(name) == name
    assert list(experiment(variants={name: {}}).variants) == [name]


def test_the_name_in_a_label_recipe_may_not_contain_a_space() -> None:
    with pytest.raises(InputError, match="name"):
        label("two words")


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("a/../b", "a-..-b"),
        ("..", "run"),
        (None, "None"),
        ("äb", "äb"),
        ("/etc/passwd", "etc-passwd"),
        ("", "run"),
        ("a\0b\nc", "a-b-c"),
        (["x"], "x"),
    ],
)
def test_a_slug_is_a_single_file_name(name: object, made: str) -> None:
    assert slugify(name) == made
    assert "/" not in slugify(name)
