"""An image is mined alike whatever shares its shard, and what goes wrong in one stays there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mining.runs.shard_mining import mine_shard
from tests.factories import write_model, write_photos
from tests.unit.engine.painting import (
    ALL,
    BOX,
    RED,
    THINGS,
    WHITE,
    Found,
    black,
    crowd,
    found_in,
    opened,
    scene,
    told,
)

# --- what goes wrong in one image stays there --------------------------------------------------------------------------


def alone(mined: Callable[..., dict[str, Found]], **options: Any) -> dict[str, tuple[Any, ...]]:
    """What is found in each of the things when it is the only image."""
    found = {name: mined({name: picture}, {name: ALL}, **options)[name] for name, picture in THINGS.items()}
    assert all(one.state == "labelled" for one in found.values())
    return {name: one.without_identity() for name, one in found.items()}


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_map_that_is_no_number_quarantines_its_image_alone(
    mined: Callable[..., dict[str, Found]], batch_size: int
) -> None:
    broken = scene((BOX, RED), ((0, 0, 2, 2), WHITE))
    pictures = {**THINGS, "b.png": broken, "d.png": broken}
    found = mined(pictures, dict.fromkeys(pictures, ALL), localizer="overflowing", batch_size=batch_size)
    for name in ("b.png", "d.png"):
        assert (found[name].state, found[name].rows) == ("quarantined", [])
        assert name in found[name].outcome.reason
        assert "NaN" in found[name].outcome.reason
    expected = alone(mined, localizer="overflowing")
    assert {name: found[name].without_identity() for name in THINGS} == expected


def test_a_constant_map_is_no_region_and_touches_no_neighbour(mined: Callable[..., dict[str, Found]]) -> None:
    pictures = {**THINGS, "b.png": black() + np.uint8(255), "d.png": black()}
    found = mined(pictures, dict.fromkeys(pictures, ALL), batch_size=5)
    assert (found["b.png"].state, found["d.png"].state) == ("no_region", "no_region")
    assert {name: found[name].without_identity() for name in THINGS} == alone(mined)


def test_a_corrupt_image_is_quarantined_with_its_reason_and_touches_no_neighbour(
    mined: Callable[..., dict[str, Found]], tmp_path: Path
) -> None:
    Image.fromarray(THINGS["a.png"]).save(tmp_path / "half.png")
    half = (tmp_path / "half.png").read_bytes()[:80]
    pictures = {**THINGS, "b.png": b"no image at all", "d.png": half, "f.png": b""}
    found = mined(pictures, dict.fromkeys(pictures, ALL), batch_size=2)
    assert [found[name].state for name in ("b.png", "d.png", "f.png")] == ["quarantined"] * 3
    assert "not an image in a supported format" in found["b.png"].outcome.reason
    assert "corrupt or truncated" in found["d.png"].outcome.reason
    assert "empty" in found["f.png"].outcome.reason
    assert {name: found[name].without_identity() for name in THINGS} == alone(mined)


def test_a_file_that_went_away_since_the_scan_is_quarantined(tmp_path: Path) -> None:
    run = opened(tmp_path, THINGS, dict.fromkeys(THINGS, ALL))
    (tmp_path / "images" / "c.png").unlink()
    mine_shard(run, 0)
    found = found_in(run)
    assert {name: one.state for name, one in found.items()} == {"a.png": "labelled", "c.png": "quarantined", "e.png": "labelled"}  # fmt: skip
    assert "no such file" in found["c.png"].outcome.reason


def test_a_shard_of_nothing_but_broken_images_ends(mined: Callable[..., dict[str, Found]]) -> None:
    found = mined({f"{n}.png": b"?" for n in range(40)}, None, batch_size=2)
    assert [one.state for one in found.values()] == ["quarantined"] * 40


# --- company and order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [2, 3, 16])
def test_the_rows_do_not_depend_on_the_size_of_the_batches(
    mined: Callable[..., dict[str, Found]], batch_size: int
) -> None:
    options: dict[str, Any] = {"scales": (1.0, 1.5, 2.0), "class_cut": 0.3}
    single = mined(crowd(), None, batch_size=1, **options)
    assert sum(len(one.rows) for one in single.values()) > 20
    assert told(mined(crowd(), None, batch_size=batch_size, **options)) == told(single)


def test_the_rows_do_not_depend_on_the_order_of_the_images(mined: Callable[..., dict[str, Found]]) -> None:
    forward = mined(crowd(), None, batch_size=3)
    backward = mined({f"{99 - int(name[:2])}.png": picture for name, picture in crowd().items()}, None, batch_size=3)
    assert told(backward) == told(forward)[::-1]


def test_a_real_network_sees_an_image_alike_in_batches_of_any_size(
    mined: Callable[..., dict[str, Found]], tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model", ("cat", "dog"))
    write_photos(tmp_path / "photos", [f"{number}.jpg" for number in range(5)])
    photos = {path.name: path.read_bytes() for path in sorted((tmp_path / "photos").iterdir())}
    options: dict[str, Any] = {"model": model, "normalise": "minmax", "scales": (1.0, 1.5), "threshold": 0.4}
    single, several = (mined(photos, dict.fromkeys(photos, ("cat", "dog")), batch_size=n, **options) for n in (1, 4))
    for first, second in zip(single.values(), several.values(), strict=True):
        assert len(first.rows) > 0
        assert np.allclose(first.boxes, second.boxes, atol=1.01)
        assert [row["score"] for row in first.rows] == pytest.approx([row["score"] for row in second.rows], abs=1e-4)
