"""Measure which changed copies of photos are found as near-duplicates, and which pairs are declared wrongly.

    BOXMINE_DATA=data python tests/benchmarks/near_duplicates.py [--photos 60] [--datasets voc-mini,bccd-mini]

Of each dataset some photos are changed in one way, and searched for among all photos of all datasets. A pair of two
photos is wrong, unless the photos are near-duplicates before anything is changed; these pairs are printed, to be looked
at.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from cyclopts import App
from PIL import Image, ImageEnhance, ImageOps

from mining.corpus.near_duplicates import find_near_duplicates

DATASETS = "voc-mini,objects7-mini,groceries-mini,fruits-mini,bccd-mini"
COPY = "copy-of-"
Change = Callable[[Image.Image, random.Random], Image.Image]

app = App(help="Measure which changed copies of photos are found as near-duplicates.")


def crop(image: Image.Image, share: float, draw: random.Random) -> Image.Image:
    """Cut a share off each side length, at a random place."""
    width, height = image.size
    left, top = int(width * share * draw.random()), int(height * share * draw.random())
    return image.crop((left, top, left + int(width * (1 - share)), top + int(height * (1 - share))))


def rotate(image: Image.Image, degrees: float, draw: random.Random, *, cuts: bool = True) -> Image.Image:
    """Rotate either way; `cuts` removes the black corners."""
    turned = image.rotate(draw.choice((-degrees, degrees)), Image.Resampling.BICUBIC)
    x, y = (int(side * degrees / 57.3 / 1.7) + 1 for side in (image.height, image.width))
    return turned.crop((x, y, image.width - x, image.height - y)) if cuts else turned


def scale(image: Image.Image, factor: float) -> Image.Image:
    """Resize by a factor."""
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


CHANGES: dict[str, tuple[Change, str, int]] = {  # change, suffix, quality
    "JPEG quality 30": (lambda image, draw: image, ".jpg", 30),
    "JPEG quality 95": (lambda image, draw: image, ".jpg", 95),
    "PNG": (lambda image, draw: image, ".png", 0),
    "WebP": (lambda image, draw: image, ".webp", 70),
    "0.3 times the size": (lambda image, draw: scale(image, 0.3), ".jpg", 90),
    "2 times the size": (lambda image, draw: scale(image, 2), ".jpg", 90),
    "2 % cropped": (lambda image, draw: crop(image, 0.02, draw), ".jpg", 90),
    "5 % cropped": (lambda image, draw: crop(image, 0.05, draw), ".jpg", 90),
    "10 % cropped": (lambda image, draw: crop(image, 0.1, draw), ".jpg", 90),
    "0.7 times the brightness": (lambda image, draw: ImageEnhance.Brightness(image).enhance(0.7), ".jpg", 90),
    "1.3 times the brightness": (lambda image, draw: ImageEnhance.Brightness(image).enhance(1.3), ".jpg", 90),
    "0.7 times the contrast": (lambda image, draw: ImageEnhance.Contrast(image).enhance(0.7), ".jpg", 90),
    "1.3 times the contrast": (lambda image, draw: ImageEnhance.Contrast(image).enhance(1.3), ".jpg", 90),
    "half the saturation": (lambda image, draw: ImageEnhance.Color(image).enhance(0.5), ".jpg", 90),
    "grey": (lambda image, draw: image.convert("L"), ".jpg", 90),
    "mirrored": (lambda image, draw: ImageOps.mirror(image), ".jpg", 90),
    "mirrored, 2 % cropped, quality 50": (lambda image, draw: crop(ImageOps.mirror(image), 0.02, draw), ".jpg", 50),
    "rotated by 1 degree": (lambda image, draw: rotate(image, 1, draw), ".jpg", 90),
    "rotated by 2 degrees": (lambda image, draw: rotate(image, 2, draw), ".jpg", 90),
    "rotated by 2 degrees, black corners": (lambda image, draw: rotate(image, 2, draw, cuts=False), ".jpg", 90),
}


@app.default
def main(*, photos: int = 60, datasets: str = DATASETS) -> None:
    """Print a table.

    Args:
        photos: Photos of each dataset that are changed.
        datasets: Folders of BOXMINE_DATA.
    """
    draw = random.Random(3)
    with TemporaryDirectory() as folder:
        root, names, changed = Path(folder), [], []
        for dataset in datasets.split(","):
            found = sorted((Path(os.environ["BOXMINE_DATA"]) / dataset / "images").glob("*.jpg"))
            for path in found:
                (root / f"{dataset} {path.name}").write_bytes(path.read_bytes())
            names += [f"{dataset} {path.name}" for path in found]
            changed += [f"{dataset} {path.name}" for path in draw.sample(found, min(photos, len(found)))]
        began = time.perf_counter()
        known = {frozenset(pair) for pair in find_near_duplicates(root, names).pairs}
        print(f"{len(names)} photos in {time.perf_counter() - began:.1f} s; near-duplicates among them:")
        for pair in known:
            print("   ", *sorted(pair), sep="  ")
        for title, change in CHANGES.items():
            recall, wrong = measure(root, names, changed, known, change, draw)
            print(f"{title:36s} found {recall:.3f} of {len(changed)}, wrong {len(wrong)}", *wrong, flush=True)


def measure(
    root: Path, names: list[str], changed: list[str], known: set[frozenset[str]],
    change: tuple[Change, str, int], draw: random.Random,
) -> tuple[float, list[frozenset[str]]]:  # fmt: skip
    """Return the share of changed copies that are found with their photo, and the wrong pairs of photos."""
    function, suffix, quality = change
    photo_of = {f"{COPY}{name}{suffix}": name for name in changed}
    for copy, name in photo_of.items():
        function(Image.open(root / name).convert("RGB"), draw).save(
            root / copy, **({"quality": quality} if quality else {})
        )
    pairs = find_near_duplicates(root, [*names, *photo_of]).pairs
    photos = [frozenset(photo_of.get(name, name) for name in pair) for pair in pairs]
    found = {next(iter(pair)) for pair in photos if len(pair) == 1}
    for copy in photo_of:
        (root / copy).unlink()
    return len(found) / len(changed), [pair for pair in photos if len(pair) > 1 and pair not in known]


if __name__ == "__main__":
    app()
