"""Each option of each localizer is described from the fields of its config."""

import subprocess
import sys
from dataclasses import fields

import pytest

from mining.errors import ModelError
from mining.localizers.loading import localizer_named
from mining.localizers.option_descriptions import describe_options
from mining.localizers.option_values import build_config
from mining.localizers.options import OPTIONS
from mining.localizers.registry import LOCALIZERS, localizers_on_same_weights


def test_every_localizer_has_options_and_a_description() -> None:
    assert set(OPTIONS) == set(LOCALIZERS)
    assert all(entry.description.endswith(".") for entry in LOCALIZERS.values())


@pytest.mark.parametrize("name", LOCALIZERS)
def test_every_option_has_a_meaning_and_a_default_that_is_accepted(name: str) -> None:
    options = describe_options(name)
    config = OPTIONS[name]()
    assert [option.name for option in options] == [field.name for field in fields(config)]
    assert all(option.meaning.endswith(".") and option.type for option in options)
    given = {option.name: option.default for option in options if option.default != "-"}
    built = build_config(type(config), given)
    for option in given:
        expected = getattr(config, option)
        rounded = pytest.approx(expected, rel=1e-3) if isinstance(expected, float) else expected
        assert getattr(built, option) == rounded


@pytest.mark.parametrize("name", LOCALIZERS)
def test_a_class_has_the_values_of_its_entry(name: str) -> None:
    kind, entry = localizer_named(name), LOCALIZERS[name]
    assert kind.Config is OPTIONS[name]
    for attribute in ("threshold", "normalise", "needs_gradients", "class_agnostic", "weights_of"):
        assert getattr(kind, attribute) == getattr(entry, attribute)


@pytest.mark.parametrize(
    ("localizer", "option", "values", "default"),
    [
        ("cam", "background", "mean | none", "mean"),
        ("cam", "dropout", "number in [0, 1)", "0.2"),
        ("ornet", "shallow", "integer in [1, 65536]", "-"),
        ("ornet", "erase_probability", "number in [0, 1] or adaptive", "0.5"),
        ("ornet", "sigma", "number > 0", "0.1"),
        ("spg", "b1", "number in (0, 1), number in (0, 1)", "0.05,0.5"),
        ("spg", "cascade", "true | false", "true"),
        ("mldfr", "kernels", "integer >= 1, ...", "7,5,3"),
        ("gradcam", "layer", "integer", "-1"),
    ],
)
def test_values_and_default_are_described(localizer: str, option: str, values: str, default: str) -> None:
    described = next(each for each in describe_options(localizer) if each.name == option)
    assert (described.type, described.default) == (values, default)


def test_localizers_on_the_classifiers_weights_name_each_other() -> None:
    assert localizers_on_same_weights("cam") == ["ccam", "gradcam", "gradcampp", "layercam", "msrd"]
    assert "cam" in localizers_on_same_weights("msrd")
    assert localizers_on_same_weights("spg") == []


def test_an_unknown_localizer_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ModelError, match="did you mean 'ccam'"):
        describe_options("ccm")


def test_descriptions_need_no_network_library() -> None:
    code = (
        "import sys; from mining.localizers.option_descriptions import describe_options; describe_options('spg'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
