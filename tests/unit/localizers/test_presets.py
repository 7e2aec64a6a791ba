"""Presets of localizers: the defaults suit short trainings on a pretrained backbone, `preset: paper` is the paper's."""

from typing import Any

import pytest
import torch

from mining.backbones.build import build
from mining.config import MineOptions
from mining.localizers.loading import localizer_named
from mining.localizers.nlccam import weights_by_rank
from mining.localizers.option_values import build_config, end_of_stage_one, options_of, recorded_options
from mining.localizers.options import OPTIONS, CCAMConfig
from mining.models.card import ModelCard
from mining.models.overrides import extraction_params

PAPER: dict[str, dict[str, Any]] = {
    "spg": {
        "third_block": False, "width": 1024, "guidance_width": 512, "background": "none", "c_layers": 1,
        "b1": (0.05, 0.5), "b2": (0.1, 0.7), "branches": "ABC",
    },
    "ornet": {
        "stage_one": 0.7, "alpha": 1.5, "beta": 0.02, "mu": 0.5, "sigma": 0.1, "rest": 0.0, "erase": True, "margin": 0,
        "shallow_stride": 4, "depth": 3, "contrast": 1.0, "rate_of_stage_two": 0.1,
    },
}  # fmt: skip
PRESETS = [name for name, config in OPTIONS.items() if hasattr(config, "PRESETS")]


def test_the_localizers_with_presets() -> None:
    assert sorted(PRESETS) == ["mldfr", "ornet", "spg"]


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_preset_has_the_papers_settings(name: str) -> None:
    config = build_config(OPTIONS[name], {"preset": "paper"})
    assert {option: getattr(config, option) for option in PAPER[name]} == PAPER[name]


@pytest.mark.parametrize("name", PRESETS)
def test_a_record_of_before_there_were_presets_means_the_papers(name: str) -> None:
    assert recorded_options(name, {})["preset"] == "paper"
    assert options_of(name, {})["preset"] == "pretrained"


@pytest.mark.parametrize(
    ("name", "preset", "cut"),
    [
        ("spg", "paper", (0.35, "minmax")),
        ("spg", "pretrained", (0.25, "max")),
        ("ornet", "paper", (0.5, "max")),
        ("ornet", "pretrained", (0.7, "max")),
    ],
)
def test_maps_are_cut_as_the_preset_says(name: str, preset: str, cut: tuple[float, str]) -> None:
    params = extraction_params(card_of(name, preset), MineOptions(refine="none"))
    with torch.device("meta"):
        localizer = localizer_named(name)(build("efficientnet_lite0")[0], 3, preset=preset)
    assert (params.threshold, params.normalise) == (localizer.threshold, localizer.normalise) == cut


def test_ornets_own_maps_are_made_at_one_scale_unless_others_are_asked_for() -> None:
    card = card_of("ornet", "pretrained")
    assert extraction_params(card, MineOptions(refine="none")).scales == (1,)
    assert extraction_params(card, MineOptions(refine="none", scales=(1, 2))).scales == (1, 2)
    assert extraction_params(card, MineOptions(refine="walk")).scales == (1, 1.5)


def card_of(name: str, preset: str) -> ModelCard:
    return ModelCard(name, "efficientnet_lite0", "single", [{"id": 1, "name": "a"}], 64, {}, {"preset": preset})


@pytest.mark.parametrize(("classes", "bottom"), [(2, 1), (7, 1), (200, 2), (1000, 10)])
def test_ccam_subtracts_a_hundredth_of_the_classes(classes: int, bottom: int) -> None:
    weights = weights_by_rank(CCAMConfig(), classes)
    assert (weights == -1).sum() == bottom
    assert weights[0] == 1


def test_the_second_stage_begins_where_the_preset_says() -> None:
    assert end_of_stage_one("ornet", {}) == 0.4
    assert end_of_stage_one("ornet", {"preset": "paper"}) == 0.7
    assert end_of_stage_one("ornet", {"stage_one": "1"}) is None
    assert end_of_stage_one("spg", {}) is None
