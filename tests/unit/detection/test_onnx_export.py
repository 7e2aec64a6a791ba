"""Detectors as ONNX files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import boxmine
from flows.cli.application import run_command
from mining.config import DetectorNetworkOptions
from mining.config.model_export import ModelExportSettings
from mining.detection import onnx_check, onnx_export
from mining.detection.faster_rcnn import FasterRCNN
from mining.detection.folder import build_detector, detector_card, load_detector, save_detector
from mining.detection.onnx_export import export_detector
from mining.detection.onnx_parts import PreparationPart
from mining.errors import ModelError
from mining.models.card import OutputSelection
from mining.models.checkpoint import write_card
from tests.factories import image_with_rectangle, register_staged_backbone, write_model

CLASSES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
SIZES = ((96, 128), (128, 96), (75, 117), (427, 640), (333, 65), (64, 64))


@pytest.fixture(autouse=True)
def backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    register_staged_backbone(monkeypatch)


def write_detector(folder: Path, kind: str = "fcos", backbone: str = "staged") -> Path:
    """Write a detector of random weights whose scores differ widely, so that rounding does not change their order."""
    torch.manual_seed(0)
    # with 96 channels, the default, an odd number of channels per group is normalised
    channels = 96 if kind == "faster-rcnn" else 64
    options = DetectorNetworkOptions(kind=kind, side=96, channels=channels, convolutions=1, frozen_stages=0)
    card = detector_card(options, backbone, CLASSES)
    detector = build_detector(card)
    with torch.no_grad():
        if isinstance(detector.head, FasterRCNN):
            detector.head.proposals.layers.head.cls_logits.weight.normal_(std=0.3)
            detector.head.proposals.layers.head.bbox_pred.weight.normal_(std=0.1)
            detector.head.regions.box_predictor.cls_score.weight.normal_(std=0.3)
        else:
            detector.head.layers.classification_head.cls_logits.weight.normal_(std=0.3)
            detector.head.layers.classification_head.cls_logits.bias.fill_(-1.0)
    save_detector(folder, detector, card)
    return folder


def export(model: Path, out: Path, **options: object) -> onnxruntime.InferenceSession:
    export_detector(ModelExportSettings(model=model, out=out, **options))  # type: ignore[arg-type]
    return onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])


def assert_the_same_boxes(session: onnxruntime.InferenceSession, model: Path, size: tuple[int, int]) -> None:
    detector, _ = load_detector(model)
    image = torch.from_numpy(image_with_rectangle(1, height=size[0], width=size[1])).permute(2, 0, 1)
    (wanted,) = detector.detect([image.float()], [None])
    boxes, labels, scores = session.run(["boxes", "labels", "scores"], {"image": image[None].numpy()})
    assert len(wanted) > 5
    assert labels.tolist() == wanted.classes.tolist()
    np.testing.assert_allclose(boxes, wanted.boxes.numpy(), rtol=0, atol=1e-3)
    np.testing.assert_allclose(scores, wanted.scores.numpy(), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fcos", "faster-rcnn", "retinanet"])
def test_a_file_finds_the_same_boxes_in_images_of_any_size(tmp_path: Path, kind: str) -> None:
    model = write_detector(tmp_path / "model", kind)
    session = export(model, tmp_path / "detector.onnx")
    for size in SIZES:
        assert_the_same_boxes(session, model, size)


@pytest.mark.slow
def test_the_padding_of_efficientnet_lite_is_the_same(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model", backbone="efficientnet_lite0")
    session = export(model, tmp_path / "detector.onnx", size="75x117")
    assert session.get_inputs()[0].shape == [1, 3, 75, 117]
    assert_the_same_boxes(session, model, (75, 117))


@pytest.mark.slow
def test_a_file_of_a_two_stage_detector_finds_the_same_boxes_in_images_of_its_size(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model", "faster-rcnn")
    session = export(model, tmp_path / "detector.onnx", size="75x117")
    assert_the_same_boxes(session, model, (75, 117))


def test_the_command_and_the_function_write_the_same_file_which_describes_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_detector(tmp_path / "model")
    options = ["--size", "64x96", "--min-score", "0.3", "--max-boxes", "7"]
    assert run_command(["export-model", str(model), *options, "--out", str(tmp_path / "a.onnx"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["classes"], said["checked_images"]) == (["cat", "dog"], 2)
    boxmine.export_model(model, tmp_path / "b.onnx", size=(64, 96), min_score=0.3, max_boxes=7)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    file = onnx.load(tmp_path / "a.onnx")
    found = {one.key: one.value for one in file.metadata_props}
    assert json.loads(found["classes"]) == CLASSES
    assert found["model_sha256"] == load_detector(model)[1].weights_sha256
    assert (found["min_score"], found["max_boxes"], found["merge_iou"]) == ("0.3", "7", "0.5")
    assert file.producer_name == "boxmine"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--size", "64", "'64' must be HEIGHTxWIDTH"),
        ("--size", "8x64", "'8x64' must be HEIGHTxWIDTH, each from 16"),
        ("--max-boxes", "0", "Setting 'max_boxes'"),
        ("--out", "detector.pt", "detector.pt must end with .onnx"),
    ],
)
def test_values_out_of_range_are_refused(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--out": "detector.onnx", option: value}
    assert run_command(["export-model", "model", *(part for pair in given.items() for part in pair)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_scores_and_number_of_boxes_are_limited(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model")
    session = export(model, tmp_path / "detector.onnx", size="96x128", min_score=0.3, max_boxes=3)
    image = image_with_rectangle(1).transpose(2, 0, 1)[None]
    boxes, _, scores = session.run(["boxes", "labels", "scores"], {"image": image})
    assert len(boxes) == 3
    assert scores.min() >= 0.3
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    session = export(model, tmp_path / "none.onnx", size="96x128", min_score=1.0)
    boxes, labels, scores = session.run(["boxes", "labels", "scores"], {"image": image})
    assert (boxes.shape, labels.shape, scores.shape) == ((0, 4), (0,), (0,))


@pytest.mark.slow
def test_outputs_that_a_run_merged_or_left_out_have_the_classes_of_its_card(tmp_path: Path) -> None:
    model = write_detector(tmp_path / "model")
    _, card = load_detector(model)
    write_card(model, replace(card, classes=[{"id": 1, "name": "dog"}], selection=OutputSelection(2, [[1]])))
    session = export(model, tmp_path / "detector.onnx", size="96x128")
    image = torch.from_numpy(image_with_rectangle(1)).permute(2, 0, 1)
    (wanted,) = load_detector(model)[0].detect([image.float()], [[1]])
    boxes, labels, _ = session.run(["boxes", "labels", "scores"], {"image": image[None].numpy()})
    assert set(labels.tolist()) == {0}
    np.testing.assert_allclose(boxes, wanted.boxes.numpy(), rtol=0, atol=1e-3)


def test_a_file_that_finds_other_boxes_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_detector(tmp_path / "model")

    class Wrong(PreparationPart):
        def __init__(self, detector: object) -> None:
            super().__init__(detector)  # type: ignore[arg-type]
            self.std *= 0.2

    monkeypatch.setattr(onnx_export, "PreparationPart", Wrong)
    with pytest.raises(ModelError, match="ONNX Runtime finds other boxes than PyTorch"):
        export(model, tmp_path / "detector.onnx", size="96x128")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_cannot_be_converted_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model = write_detector(tmp_path / "model")

    class Odd(PreparationPart):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if image.sum() > 10:
                image = image + 1
            return super().forward(image)

    monkeypatch.setattr(onnx_export, "PreparationPart", Odd)
    with pytest.raises(ModelError, match=r"cannot be converted to ONNX: .*give --size") as refusal:
        export(model, tmp_path / "detector.onnx")
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", ""), "torch prints the layers up to there"


def test_localizers_and_missing_packages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    localizer = write_model(tmp_path / "localizer", ("cat", "dog"), backbone="staged")
    with pytest.raises(ModelError, match="holds a localizer"):
        export(localizer, tmp_path / "model.onnx")
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(ModelError, match=r"needs onnxscript: pip install 'boxmine\[onnx\]'"):
        export(localizer, tmp_path / "model.onnx")


def test_boxes_are_compared_by_place_class_and_score() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    labels, scores = np.array([0, 1]), np.array([0.9, 0.5], np.float32)
    shared = onnx_check._shared
    assert shared((boxes, labels, scores), (boxes, labels, scores)) == 1
    assert shared((boxes, labels, scores), (boxes[::-1], labels[::-1], scores[::-1])) == 1
    assert shared((boxes, labels, scores), (boxes, 1 - labels, scores)) == 0
    assert shared((boxes, labels, scores), (boxes + 1, labels, scores)) == 0
    assert shared((boxes, labels, scores), (boxes, labels, scores + np.float32([0, 0.1]))) == 0.5
    assert shared((boxes, labels, scores), (boxes[:1], labels[:1], scores[:1])) == 0.5
