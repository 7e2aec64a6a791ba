"""Mining with a detector: which of its boxes are kept, and what is recorded of them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mining.config import MineSettings
from mining.detection.boxes import Detections
from mining.engine.detector_miner import DetectorMiner
from mining.models.card import ModelCard, OutputSelection

SIZE = 80, 40  # px, wide and high
CLASSES = [{"id": 1, "name": "dog"}, {"id": 3, "name": "cat"}]


class Listed(nn.Module):
    """A detector that finds the same boxes in every image: (class, x0, y0, x1, y1 as shares of the image, score)."""

    def __init__(self, *found: tuple[int, float, float, float, float, float]) -> None:
        super().__init__()
        self.found = found
        self.seen: list[tuple[tuple[int, ...], list[int] | None]] = []

    def detect(
        self, images: list[Tensor], classes: list[list[int] | None], *, min_score: float, merge_iou: float
    ) -> list[Detections]:
        results = []
        for image, wanted in zip(images, classes, strict=True):
            self.seen.append((tuple(image.shape), wanted))
            kept = [one for one in self.found if (wanted is None or one[0] in wanted) and one[5] >= min_score]
            kept.sort(key=lambda one: -one[5])
            sides = [image.shape[2], image.shape[1]] * 2
            boxes = torch.tensor([one[1:5] for one in kept]).reshape(-1, 4) * torch.tensor(sides)
            results.append(
                Detections(boxes, torch.tensor([one[0] for one in kept], dtype=torch.int64), torch.tensor([one[5] for one in kept]))
            )  # fmt: skip
        return results


DOG, SMALL_DOG, WEAK_DOG, CAT = (
    (0, 0.0, 0.0, 0.5, 1.0, 0.9), (0, 0.6, 0.1, 0.9, 0.6, 0.5), (0, 0.6, 0.7, 0.8, 1.0, 0.2), (1, 0.5, 0.5, 1.0, 1.0, 0.1)
)  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(noise).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def miner_of(
    photos: Path, detector: Listed, selection: OutputSelection | None = None, kind: str = "fcos", **options: Any
) -> DetectorMiner:
    classes = CLASSES if selection is None else CLASSES[: len(selection.outputs)]
    card = ModelCard(
        kind, "x", "multi", classes, input_size=320, normalisation={}, weights_sha256="f" * 64, selection=selection
    )
    settings = MineSettings(
        images=photos, model="pretrained:x", out=photos.parent / "run", device="cpu", workers=1, **options
    )
    return DetectorMiner(detector, card, settings)  # type: ignore[arg-type]


def row(name: str, labels: list[str] | None, number: int = 1) -> dict[str, Any]:
    return {
        "image_id": number, "file_name": name, "labels": labels, "width": None, "height": None, "content_hash": None
    }  # fmt: skip


def test_a_labelled_image_has_the_best_box_of_each_class_and_the_confident_ones(photos: Path) -> None:
    detector = Listed(DOG, SMALL_DOG, WEAK_DOG, CAT)
    (outcome,) = miner_of(photos, detector).mine([row("a.png", ["dog", "cat"])])
    assert outcome.state == "labelled"
    assert [(one["category"], round(one["score"], 3)) for one in outcome.boxes] == [
        ("dog", 0.9), ("dog", 0.5), ("cat", 0.1),
    ]  # fmt: skip
    best = outcome.boxes[0]
    assert [best[side] for side in ("x", "y", "w", "h")] == [0, 0, 40, 40]
    assert (best["category_id"], best["source"], best["localizer"], best["model_sha256"]) == (
        1,
        "label",
        "fcos",
        "f" * 64,
    )
    assert best["class_score"] == pytest.approx(0.9)
    assert all(math.isnan(best[name]) for name in ("peak", "mean_activation", "threshold"))
    assert outcome.ranked == [], "classes that were not looked for cannot be ranked"
    assert (outcome.width, outcome.height) == SIZE
    assert outcome.content_hash is not None


def test_only_the_labels_are_looked_for(photos: Path) -> None:
    detector = Listed(DOG, CAT)
    outcomes = miner_of(photos, detector).mine([row("a.png", ["cat", "unknown"]), row("b.png", [])])
    assert [[one["category"] for one in outcome.boxes] for outcome in outcomes] == [["cat"], []]
    assert [outcome.state for outcome in outcomes] == ["labelled", "no_class"]
    assert [wanted for _, wanted in detector.seen] == [[1], []]


def test_an_unlabelled_image_has_the_confident_boxes_of_all_classes(photos: Path) -> None:
    (outcome,) = miner_of(photos, Listed(DOG, WEAK_DOG, CAT)).mine([row("a.png", None)])
    assert [(one["category"], one["source"]) for one in outcome.boxes] == [("dog", "prediction")]
    assert outcome.ranked == [(1, 0.9), (3, 0.1)]


def test_boxes_of_a_kind_with_higher_scores_are_confident_from_a_higher_one_on(photos: Path) -> None:
    found = Listed(DOG, SMALL_DOG, (1, 0.5, 0.5, 1.0, 1.0, 0.65))
    (labelled,) = miner_of(photos, found, kind="faster-rcnn").mine([row("a.png", ["dog", "cat"])])
    assert [round(one["score"], 3) for one in labelled.boxes] == [0.9, 0.65], "the best of each class"
    (unlabelled,) = miner_of(photos, found, kind="faster-rcnn").mine([row("a.png", None)])
    assert [round(one["score"], 3) for one in unlabelled.boxes] == [0.9]
    (other,) = miner_of(photos, found).mine([row("a.png", None)])
    assert len(other.boxes) == 3


@pytest.mark.parametrize(
    ("found", "options", "state"),
    [
        ((), {}, "no_region"),
        ((DOG,), {"min_score": 0.95}, "low_score"),
        (((0, 0.0, 0.0, 0.02, 0.02, 0.9),), {}, "filtered"),
    ],
)
def test_an_image_without_a_box_says_why(photos: Path, found: Any, options: dict[str, Any], state: str) -> None:
    (outcome,) = miner_of(photos, Listed(*found), **options).mine([row("a.png", ["dog"])])
    assert (outcome.state, outcome.boxes) == (state, [])


def test_an_unreadable_image_is_quarantined_and_the_others_are_mined_in_order(photos: Path) -> None:
    done: list[int] = []
    rows = [row("a.png", ["dog"], 1), row("broken.png", ["dog"], 2), row("b.png", ["dog"], 3)]
    outcomes = miner_of(photos, Listed(DOG)).mine(rows, done.append)
    assert [(one.image_id, one.state) for one in outcomes] == [(1, "labelled"), (2, "quarantined"), (3, "labelled")]
    assert sum(done) == 3


def test_merged_classes_have_the_boxes_of_all_their_outputs(photos: Path) -> None:
    selection = OutputSelection(2, [[0, 1]])
    detector = Listed(DOG, (1, 0.6, 0.1, 0.9, 0.6, 0.8))
    (outcome,) = miner_of(photos, detector, selection).mine([row("a.png", ["dog"])])
    assert [one["category"] for one in outcome.boxes] == ["dog", "dog"]
    assert detector.seen[0][1] == [0, 1]
