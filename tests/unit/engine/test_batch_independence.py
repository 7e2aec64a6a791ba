"""An image's results do not depend on the other images of its shard, even if those are corrupt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mining.runs.shard_mining import mine_shard
from tests.factories import image_with_rectangle, write_model, write_photos
from tests.unit.engine.painting import (
    ALL,
    BOX,
    RED,
    THINGS,
    WHITE,
    ImageResult,
    black,
    comparable,
    crowd,
    planned_run,
    results_by_file,
    scene,
)

# --- errors in one image do not affect others --------------------------------------------------------------------------


def mined_separately(mined: Callable[..., dict[str, ImageResult]], **options: Any) -> dict[str, tuple[Any, ...]]:
    """Return the results of each image of `THINGS` when it is mined alone."""
    found = {name: mined({name: picture}, {name: ALL}, **options)[name] for name, picture in THINGS.items()}
    assert all(one.state == "labelled" for one in found.values())
    return {name: one.without_identity() for name, one in found.items()}


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_map_with_nan_quarantines_only_its_own_image(
    mined: Callable[..., dict[str, ImageResult]], batch_size: int
) -> None:
    broken = scene((BOX, RED), ((0, 0, 2, 2), WHITE))
    pictures = {**THINGS, "b.png": broken, "d.png": broken}
    found = mined(pictures, dict.fromkeys(pictures, ALL), localizer="overflowing", batch_size=batch_size)
    for name in ("b.png", "d.png"):
        assert (found[name].state, found[name].rows) == ("quarantined", [])
        assert name in found[name].outcome.reason
        assert "NaN" in found[name].outcome.reason
    expected = mined_separately(mined, localizer="overflowing")
    assert {name: found[name].without_identity() for name in THINGS} == expected


def test_a_constant_map_gives_no_region_and_does_not_affect_other_images(
    mined: Callable[..., dict[str, ImageResult]],
) -> None:
    pictures = {**THINGS, "b.png": black() + np.uint8(255), "d.png": black()}
    found = mined(pictures, dict.fromkeys(pictures, ALL), batch_size=5)
    assert (found["b.png"].state, found["d.png"].state) == ("no_region", "no_region")
    assert {name: found[name].without_identity() for name in THINGS} == mined_separately(mined)


def test_a_corrupt_image_is_quarantined_with_a_reason_and_does_not_affect_other_images(
    mined: Callable[..., dict[str, ImageResult]], tmp_path: Path
) -> None:
    Image.fromarray(THINGS["a.png"]).save(tmp_path / "half.png")
    half = (tmp_path / "half.png").read_bytes()[:80]
    pictures = {**THINGS, "b.png": b"no image at all", "d.png": half, "f.png": b""}
    found = mined(pictures, dict.fromkeys(pictures, ALL), batch_size=2)
    assert [found[name].state for name in ("b.png", "d.png", "f.png")] == ["quarantined"] * 3
    assert "not an image in a supported format" in found["b.png"].outcome.reason
    assert "corrupt or truncated" in found["d.png"].outcome.reason
    assert "empty" in found["f.png"].outcome.reason
    assert {name: found[name].without_identity() for name in THINGS} == mined_separately(mined)


def test_an_image_deleted_after_the_scan_is_quarantined(tmp_path: Path) -> None:
    run = planned_run(tmp_path, THINGS, dict.fromkeys(THINGS, ALL))
    (tmp_path / "images" / "c.png").unlink()
    mine_shard(run, 0)
    found = results_by_file(run)
    assert {name: one.state for name, one in found.items()} == {"a.png": "labelled", "c.png": "quarantined", "e.png": "labelled"}  # fmt: skip
    assert "no such file" in found["c.png"].outcome.reason


def test_a_shard_with_only_corrupt_images_completes(mined: Callable[..., dict[str, ImageResult]]) -> None:
    found = mined({f"{n}.png": b"?" for n in range(40)}, None, batch_size=2)
    assert [one.state for one in found.values()] == ["quarantined"] * 40


# --- batch size and order ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [2, 3, 16])
def test_rows_do_not_depend_on_the_batch_size(mined: Callable[..., dict[str, ImageResult]], batch_size: int) -> None:
    options: dict[str, Any] = {"scales": (1.0, 1.5, 2.0), "class_cut": 0.3}
    single = mined(crowd(), None, batch_size=1, **options)
    assert sum(len(one.rows) for one in single.values()) > 20
    assert comparable(mined(crowd(), None, batch_size=batch_size, **options)) == comparable(single)


def test_rows_do_not_depend_on_the_image_order(mined: Callable[..., dict[str, ImageResult]]) -> None:
    forward = mined(crowd(), None, batch_size=3)
    backward = mined({f"{99 - int(name[:2])}.png": picture for name, picture in crowd().items()}, None, batch_size=3)
    assert comparable(backward) == comparable(forward)[::-1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_rows_are_equal_to_the_last_bit_for_any_number_of_threads(
    mined: Callable[..., dict[str, ImageResult]], tmp_path: Path, runtime: str, precision: str
) -> None:
    model = write_model(tmp_path / "model", ("cat", "dog"))
    write_photos(tmp_path / "photos", [f"{number}.jpg" for number in range(7)])
    photos = {path.name: path.read_bytes() for path in sorted((tmp_path / "photos").iterdir())}
    Image.fromarray(image_with_rectangle(9, height=60, width=150)).save(tmp_path / "wide.png")
    photos["wide.png"] = (tmp_path / "wide.png").read_bytes()
    options: dict[str, Any] = {"model": model, "scales": (1.0, 1.5), "refine": "walk", "class_cut": 0.01}
    options |= {"runtime": runtime, "precision": precision}
    found = [mined(photos, None, workers=count, **options) for count in (1, 2, 4)]
    rows = [[(name, one.rows) for name, one in results.items()] for results in found]
    assert sum(len(some) for _, some in rows[0]) >= 8
    assert rows[0] == rows[1] == rows[2]


def test_a_real_network_gives_the_same_boxes_for_any_batch_size(
    mined: Callable[..., dict[str, ImageResult]], tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model", ("cat", "dog"))
    write_photos(tmp_path / "photos", [f"{number}.jpg" for number in range(5)])
    photos = {path.name: path.read_bytes() for path in sorted((tmp_path / "photos").iterdir())}
    options: dict[str, Any] = {"model": model, "normalise": "minmax", "scales": (1.0, 1.5), "threshold": 0.4}
    options["precision"] = "float32"
    single, several = (mined(photos, dict.fromkeys(photos, ("cat", "dog")), batch_size=n, **options) for n in (1, 4))
    for first, second in zip(single.values(), several.values(), strict=True):
        assert len(first.rows) > 0
        assert np.allclose(first.boxes, second.boxes, atol=1.01)
        assert [row["score"] for row in first.rows] == pytest.approx([row["score"] for row in second.rows], abs=1e-4)
