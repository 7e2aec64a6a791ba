"""Model folders of detectors."""

import json
from pathlib import Path

import pytest
import torch

from mining.config import DETECTOR_KINDS, DetectorNetworkOptions, MapsSettings, TrainOptions
from mining.detection.folder import build_detector, detector_card, load_detector, save_detector
from mining.errors import ModelError
from mining.models.card import WEIGHTS_FILE, is_detector, read_card
from mining.models.checkpoint import load_model
from mining.preflight import check_model, refuse_unusable_start
from mining.reporting.maps_inputs import plan_columns
from tests.factories import register_staged_backbone, write_model

CLASSES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]


@pytest.fixture(autouse=True)
def backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    register_staged_backbone(monkeypatch)
    torch.manual_seed(0)


def write_detector(folder: Path, kind: str = "fcos") -> Path:
    options = DetectorNetworkOptions(kind=kind, side=64, channels=64, convolutions=1, frozen_stages=0)
    card = detector_card(options, "staged", CLASSES)
    save_detector(folder, build_detector(card), card)
    return folder


@pytest.mark.parametrize("kind", DETECTOR_KINDS)
def test_a_saved_detector_is_loaded_with_the_same_detections(tmp_path: Path, kind: str):
    options = DetectorNetworkOptions(kind=kind, side=64, channels=64, convolutions=1, frozen_stages=0)
    card = detector_card(options, "staged", CLASSES)
    detector = build_detector(card)
    written = save_detector(tmp_path / "model", detector, card)
    loaded, read = load_detector(tmp_path / "model")
    assert read == written == read_card(tmp_path / "model")
    assert (read.localizer, read.input_size, read.class_names, read.objective) == (kind, 64, ["cat", "dog"], "multi")
    assert loaded.options == options
    assert not loaded.training
    image = torch.randint(256, (3, 64, 48), dtype=torch.uint8)
    (first,), (second,) = (one.detect([image], [None], min_score=0.0) for one in (detector, loaded))
    assert len(first)
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.scores, second.scores)


def test_damaged_weights_are_refused(tmp_path: Path):
    folder = write_detector(tmp_path / "model")
    path = folder / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"SHA-256 is not the one in model\.json"):
        load_detector(folder)


@pytest.mark.parametrize(("name", "value"), [("convolutions", 99), ("convolution", 2), ("channels", "many")])
def test_options_that_this_version_does_not_have_are_refused(tmp_path: Path, name: str, value: object):
    folder = write_detector(tmp_path / "model")
    path = folder / "model.json"
    record = json.loads(path.read_text())
    record["options"][name] = value
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError, match=rf"needs what this version of boxmine does not have: .*{name}"):
        load_detector(folder)


def test_a_localizer_is_no_detector(tmp_path: Path):
    folder = write_model(tmp_path / "model", ("cat", "dog"), backbone="staged")
    with pytest.raises(ModelError, match=r"holds a localizer \(cam\), not a detector"):
        load_detector(folder)


def test_a_detector_can_be_mined_with(tmp_path: Path):
    folder = write_detector(tmp_path / "model")
    card = check_model(str(folder))
    assert card is not None
    assert is_detector(card)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors is missing"):
        check_model(str(folder))


def test_a_detector_is_no_localizer(tmp_path: Path):
    folder = write_detector(tmp_path / "model")
    sentence = r"holds a detector \(fcos\), which has no activation maps"
    with pytest.raises(ModelError, match=sentence):
        load_model(folder)
    with pytest.raises(ModelError, match=sentence):
        plan_columns(MapsSettings(models=[str(folder)], images=[tmp_path], out=tmp_path / "maps.html"))
    with pytest.raises(ModelError, match=sentence):
        refuse_unusable_start(TrainOptions(backbone="staged", weights=str(folder)))
