import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mining.errors import InputError
from mining.storage.ownership import MARK_FILE, temporary_path
from mining.synthetic import CLASSES, Scene, compose, generate, render
from mining.synthetic.objects import FIGURES
from mining.synthetic.scenes import MIN_VISIBLE, _Canvas, _ground_truth, _place, _Placed
from mining.synthetic.sprites import Sprite, draw_sprite


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [compose(index, seed=3) for index in range(240)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    generate(out, images=24, seed=5)
    return out


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARK_FILE)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def sprites(name: str, longest_px: float) -> list[Sprite]:
    rngs = [np.random.default_rng(number) for number in range(25)]
    return [draw_sprite(FIGURES[name](rng), rng, longest_px=longest_px) for rng in rngs]


def test_the_same_call_writes_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    generate(tmp_path, images=24, seed=5)
    assert digests(tmp_path) == digests(corpus)
    assert len(digests(corpus)) == 26


def test_another_seed_writes_different_images(corpus: Path, tmp_path: Path) -> None:
    generate(tmp_path, images=24, seed=6)
    images = {name: digest for name, digest in digests(corpus).items() if name.startswith("images/")}
    assert not set(images.values()) & set(digests(tmp_path).values())


def test_a_part_of_the_corpus_equals_the_same_part_of_the_whole(corpus: Path, tmp_path: Path) -> None:
    generate(tmp_path, images=1, start=7, seed=5)
    alone, whole = (json.loads((folder / "truth.json").read_text()) for folder in (tmp_path, corpus))
    assert digests(tmp_path / "images")["000007.jpg"] == digests(corpus / "images")["000007.jpg"]
    assert alone["images"] == [image for image in whole["images"] if image["file_name"] == "000007.jpg"]
    image_id = alone["images"][0]["id"]
    assert alone["annotations"] == [entry for entry in whole["annotations"] if entry["image_id"] == image_id]
    assert alone["annotations"]


def test_a_scene_does_not_depend_on_earlier_scenes(scenes: list[Scene]) -> None:
    again = compose(200, seed=3)
    np.testing.assert_array_equal(again.rgb, scenes[200].rgb)
    assert [truth.size for truth in again.objects] == [truth.size for truth in scenes[200].objects]


def test_boxes_are_tight_around_the_visible_pixels(scenes: list[Scene]) -> None:
    for truth in (truth for scene in scenes for truth in scene.objects):
        y, x = np.nonzero(truth.mask)
        assert truth.box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert truth.box.dtype == np.float32


@pytest.mark.parametrize("corner", [(30, 20), (-25, 60), (70, -20), (75, 75)])
@pytest.mark.parametrize("name", CLASSES)
def test_the_ground_truth_box_lies_where_the_object_is_drawn(name: str, corner: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    sprite = draw_sprite(FIGURES[name](rng), rng, longest_px=100)
    canvas = _Canvas(np.zeros((150, 140, 3), np.float32), np.zeros((150, 140), np.int16))
    assert _place(canvas, sprite, corner, _Placed(0, 0.7, 0, 0))
    y, x = np.nonzero(canvas.image.max(2) > 0)
    painted = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    # the soft rim is painted, but only pixels with at least half coverage belong to the object
    np.testing.assert_allclose(_ground_truth(canvas, 0).box, painted, atol=1)


def test_objects_of_a_scene_share_no_pixel_and_stay_visible(scenes: list[Scene]) -> None:
    for scene in scenes:
        masks = [truth.mask for truth in scene.objects]
        assert sum((mask.astype(int) for mask in masks), np.zeros(scene.rgb.shape[:2], int)).max() <= 1
        assert all(
            truth.discriminative.any() and not (truth.discriminative & ~truth.mask).any() for truth in scene.objects
        )
    assert MIN_VISIBLE >= 0.4


@pytest.mark.parametrize("name", CLASSES)
def test_the_discriminative_part_covers_less_than_half_of_the_object(name: str) -> None:
    shares = [sprite.discriminative.sum() / sprite.mask.sum() for sprite in sprites(name, 150)]
    assert 0.15 <= min(shares) <= max(shares) < 0.5


@pytest.mark.parametrize("name", CLASSES)
def test_a_sprite_has_the_requested_length_and_touches_no_edge(name: str) -> None:
    for sprite in sprites(name, 90):
        y, x = np.nonzero(sprite.mask)
        assert max(np.ptp(x), np.ptp(y)) + 1 == pytest.approx(90, abs=3)
        assert min(x.min(), y.min()) > 0
        assert x.max() < sprite.mask.shape[1] - 1
        assert y.max() < sprite.mask.shape[0] - 1


def test_an_image_has_0_to_4_objects_and_every_number_occurs(scenes: list[Scene]) -> None:
    assert {len(scene.objects) for scene in scenes} == {0, 1, 2, 3, 4}
    assert np.median([len(scene.objects) for scene in scenes]) in (1, 2)


def test_every_class_and_every_octave_of_size_occurs(scenes: list[Scene]) -> None:
    found = [truth for scene in scenes for truth in scene.objects]
    counts = np.bincount([truth.category for truth in found], minlength=len(CLASSES))
    octaves = np.bincount([int(np.log2(truth.size / 0.1)) for truth in found], minlength=3)
    assert counts.min() > 0.5 * counts.mean()
    assert len(octaves) == 3
    assert octaves.min() >= 4


def test_images_are_landscape_and_portrait_within_the_requested_size(scenes: list[Scene]) -> None:
    shapes = np.array([scene.rgb.shape[:2] for scene in scenes])
    assert shapes.min() >= 240
    assert shapes.max() <= 400
    assert 0.3 < (shapes[:, 0] > shapes[:, 1]).mean() < 0.7
    assert compose(0, size=(100, 100)).rgb.shape == (100, 100, 3)


def test_a_whole_image_box_and_a_centred_one_are_poor_guesses(scenes: list[Scene]) -> None:
    for share in (1.0, 0.5):
        assert np.mean([hit for scene in scenes for hit in hits(scene, share)]) < 0.25


def hits(scene: Scene, share: float) -> list[bool]:
    """For each class of the scene, whether a centred box of this share of the area has IoU 0.5 with an object."""
    size = np.array(scene.rgb.shape[1::-1])
    low, high = size * (1 - share**0.5) / 2, size * (1 + share**0.5) / 2
    best: dict[int, float] = {}
    for truth in scene.objects:
        x0y0, x1y1 = truth.box[:2], truth.box[2:]
        both = np.clip(np.minimum(x1y1, high) - np.maximum(x0y0, low), 0, None).prod()
        iou = both / ((high - low).prod() + (x1y1 - x0y0).prod() - both)
        best[truth.category] = max(best.get(truth.category, 0.0), float(iou))
    return [value >= 0.5 for value in best.values()]


def test_the_smallest_images_can_be_generated() -> None:
    for index in range(40):
        scene = compose(index, size=(64, 64))
        assert all((truth.box[2:] > truth.box[:2]).all() for truth in scene.objects)


def test_render_returns_the_arrays_of_the_scene() -> None:
    scene = compose(7, seed=5)
    rgb, boxes, classes = render(7, seed=5)
    np.testing.assert_array_equal(rgb, scene.rgb)
    assert boxes.tolist() == [truth.box.tolist() for truth in scene.objects]
    assert classes.tolist() == [truth.category for truth in scene.objects]
    assert (rgb.dtype, boxes.dtype, classes.dtype) == (np.uint8, np.float32, np.int64)


def test_render_returns_empty_arrays_for_a_scene_without_objects(scenes: list[Scene]) -> None:
    empty = next(index for index, scene in enumerate(scenes) if not scene.objects)
    _, boxes, classes = render(empty, seed=3)
    assert boxes.shape == (0, 4)
    assert classes.shape == (0,)


def test_labels_are_the_classes_of_the_ground_truth(tmp_path: Path) -> None:
    generate(tmp_path, images=60, seed=3, size=(64, 96))
    truth = json.loads((tmp_path / "truth.json").read_text())
    names = {entry["id"]: entry["name"] for entry in truth["categories"]}
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = {row["file_name"]: row["labels"] for row in csv.DictReader(file)}
    for image in truth["images"]:
        own = [entry for entry in truth["annotations"] if entry["image_id"] == image["id"]]
        assert labels[image["file_name"]] == "|".join(sorted({names[entry["category_id"]] for entry in own}))
    assert set(labels) == {path.name for path in (tmp_path / "images").iterdir()}
    assert "" in labels.values()


def test_the_ground_truth_loads_in_pycocotools_and_matches_the_images(corpus: Path) -> None:
    coco = COCO(corpus / "truth.json")
    assert sorted(coco.getCatIds()) == list(range(1, len(CLASSES) + 1))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    for image in coco.loadImgs(coco.getImgIds()):
        assert cv2.imread(str(corpus / "images" / image["file_name"])).shape[:2] == (image["height"], image["width"])
    for entry in coco.loadAnns(coco.getAnnIds(iscrowd=0)):
        _, boxes, classes = render(entry["image_id"] - 1, seed=5)
        x, y, w, h = entry["bbox"]
        assert [x, y, x + w, y + h] in boxes[classes == entry["category_id"] - 1].tolist()
        assert 0 < entry["area"] <= w * h


def test_the_summary_counts_what_was_written(tmp_path: Path) -> None:
    summary = generate(tmp_path, images=12, seed=1, size=(64, 96))
    annotations = json.loads((tmp_path / "truth.json").read_text())["annotations"]
    counts = np.bincount([entry["category_id"] - 1 for entry in annotations], minlength=len(CLASSES))
    assert (summary.images, summary.boxes, summary.classes) == (12, len(annotations), CLASSES)
    assert summary.boxes_per_class == dict(zip(CLASSES, counts.tolist(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"images": 0}, "at least 1 image"),
        ({"start": -1}, "a start of at least 0"),
        ({"seed": -1}, "seed -1"),
        ({"size": (400, 240)}, "the smaller one first"),
        ({"size": (10, 240)}, "between 64 and"),
        ({"size": (64, 100_000)}, "between 64 and 8192"),
    ],
)
def test_impossible_arguments_are_refused_and_write_nothing(
    tmp_path: Path, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        generate(tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_images_of_another_corpus_in_the_folder_are_refused(tmp_path: Path) -> None:
    generate(tmp_path, images=3, size=(64, 96))
    with pytest.raises(InputError, match=r"1 files .* such as 000002\.jpg"):
        generate(tmp_path, images=2, size=(64, 96))
    assert generate(tmp_path, images=3, size=(64, 96)).images == 3


def test_a_folder_that_was_not_generated_is_refused_and_stays_unchanged(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("images/000000.jpg", "labels.csv", "truth.json"):
        (tmp_path / name).write_text("somebody's work")
    before = digests(tmp_path)
    with pytest.raises(InputError, match=r"holds other files \(e\.g\. 'images'\)"):
        generate(tmp_path, images=3, size=(64, 96))
    assert digests(tmp_path) == before


def test_temporaries_of_a_killed_process_are_deleted_and_similar_files_are_not(tmp_path: Path) -> None:
    generate(tmp_path, images=1, size=(64, 96))
    left, foreign = temporary_path(tmp_path / "images" / "000000.jpg"), tmp_path / ".tmp-1-labels.csv"
    for path in (left, foreign):
        path.write_bytes(b"half")
    generate(tmp_path, images=1, size=(64, 96))
    assert (left.exists(), foreign.exists()) == (False, True)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        generate(tmp_path / "out", images=1)


def test_importing_the_package_does_not_load_torch() -> None:
    code = "import sys, mining.synthetic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
