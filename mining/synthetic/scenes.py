"""Scenes: objects among distractors on a background, with exact ground truth."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mining.errors import InputError
from mining.synthetic.backgrounds import background, relight
from mining.synthetic.objects import CLASSES, DISTRACTORS, FIGURES
from mining.synthetic.sprites import Sprite, draw_sprite
from mining.synthetic.textures import Plane, Rgb

DEFAULT_SIZE = (240, 400)
SMALLEST_SIDE_PX, LARGEST_SIDE_PX = 64, 8192
MAX_OBJECTS = 4
MIN_VISIBLE = 0.5
_COUNT_SHARES = (0.06, 0.5, 0.28, 0.11, 0.05)
_SMALLEST, _LARGEST = 0.1, 0.8
_TRIES = 12


@dataclass(frozen=True)
class SceneObject:
    """Ground truth of one object of a scene.

    Attributes:
        category: Index of its class.
        box: (4,) float32 xyxy in pixels, half-open: the tight box of `mask`.
        mask: (H, W) bool, the visible pixels: inside the image, and not occluded.
        discriminative: (H, W) bool, the visible pixels of the discriminative part.
        size: Longest side of the whole object as a share of the image's shorter side.
    """

    category: int
    box: NDArray[np.float32]
    mask: NDArray[np.bool_]
    discriminative: NDArray[np.bool_]
    size: float


@dataclass(frozen=True)
class Scene:
    """One generated image.

    Attributes:
        rgb: (H, W, 3) uint8 RGB.
        objects: Its objects, from back to front.
    """

    rgb: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True)
class _Placed:
    category: int
    size: float
    area_px: int
    discriminative_px: int


@dataclass
class _Canvas:
    """The image while it is composed, and the object that each pixel shows.

    Attributes:
        image: (H, W, 3) float32.
        owner: (H, W) int16; 0 = no object, 2 n + 1 = body of object n, 2 n + 2 = discriminative part of object n.
        placed: The objects so far.
    """

    image: Rgb
    owner: NDArray[np.int16]
    placed: list[_Placed] = field(default_factory=list)


def compose(index: int, *, seed: int = 0, size: tuple[int, int] = DEFAULT_SIZE) -> Scene:
    """Compose one scene.

    An object is dropped unless at least half of it and half of its discriminative part are visible.

    Args:
        index: Number of the scene.
        seed: Seed of the corpus.
        size: Smallest and largest side of the image in pixels; width and height are drawn from it independently.

    Raises:
        InputError: The index or seed is negative, or the size is out of range.
    """
    _check_arguments(index, seed, size)
    rng = np.random.default_rng([seed, index])
    width, height = (int(side) for side in rng.integers(size[0], size[1] + 1, 2))
    canvas = _Canvas(background(rng, (height, width)), np.zeros((height, width), np.int16))
    for _ in range(int(rng.integers(1, 5))):
        _place_distractor(canvas, rng, largest=0.5)
    for _ in range(int(rng.choice(MAX_OBJECTS + 1, p=_COUNT_SHARES))):
        _place_object(canvas, rng)
    for _ in range(int(rng.integers(0, 3))):
        _place_distractor(canvas, rng, largest=0.3)
    rgb = np.round(relight(canvas.image, rng)).astype(np.uint8)
    return Scene(rgb, tuple(_ground_truth(canvas, number) for number in range(len(canvas.placed))))


def render(
    index: int, *, seed: int = 0, size: tuple[int, int] = DEFAULT_SIZE
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """Compose one scene and return it as arrays; arguments and errors are those of `compose`.

    Returns:
        The image, (H, W, 3) uint8 RGB; boxes, (n, 4) float32 xyxy in pixels; class indices, (n,) int64; n is 0 to 4.
    """
    scene = compose(index, seed=seed, size=size)
    boxes = np.array([truth.box for truth in scene.objects], np.float32).reshape(-1, 4)
    return scene.rgb, boxes, np.array([truth.category for truth in scene.objects], np.int64)


def _check_arguments(index: int, seed: int, size: tuple[int, int]) -> None:
    if index < 0 or seed < 0:
        raise InputError(f"Image number {index} of seed {seed}: both must be at least 0.")
    if not SMALLEST_SIDE_PX <= size[0] <= size[1] <= LARGEST_SIDE_PX:
        raise InputError(
            f"Image size {size}: give the smallest and the largest side in pixels, "
            f"between {SMALLEST_SIDE_PX} and {LARGEST_SIDE_PX}, the smaller one first."
        )


def _place_object(canvas: _Canvas, rng: Generator) -> None:
    """Add an object of random class and size; sizes span three octaves."""
    category = int(rng.integers(len(CLASSES)))
    size = _SMALLEST * (_LARGEST / _SMALLEST) ** rng.beta(3, 1)
    sprite = draw_sprite(FIGURES[CLASSES[category]](rng), rng, longest_px=size * min(canvas.owner.shape))
    placed = _Placed(category, size, int(sprite.mask.sum()), int(sprite.discriminative.sum()))
    for _ in range(_TRIES):
        if _place(canvas, sprite, _corner(canvas, sprite, rng), placed):
            return


def _place_distractor(canvas: _Canvas, rng: Generator, *, largest: float) -> None:
    """Add a body without a discriminative part, or a shape of no class."""
    figure = DISTRACTORS[int(rng.integers(len(DISTRACTORS)))](rng)
    sprite = draw_sprite(figure, rng, longest_px=rng.uniform(0.12, largest) * min(canvas.owner.shape))
    for _ in range(_TRIES):
        if _place(canvas, sprite, _corner(canvas, sprite, rng), None):
            return


def _corner(canvas: _Canvas, sprite: Sprite, rng: Generator) -> tuple[int, int]:
    """A random position of the sprite's top left corner; up to a fifth of it may leave the image on each side."""
    (height, width), (high, wide) = canvas.owner.shape, sprite.alpha.shape
    return int(rng.uniform(-0.2 * wide, width - 0.8 * wide)), int(rng.uniform(-0.2 * high, height - 0.8 * high))


def _place(canvas: _Canvas, sprite: Sprite, corner: tuple[int, int], placed: _Placed | None) -> bool:
    """Draw the sprite, unless too little of some object would remain visible; returns whether it was drawn."""
    region, part = _overlap(canvas.owner.shape, sprite.alpha.shape, corner)
    number = len(canvas.placed)
    owner = canvas.owner.copy()
    tags = np.where(sprite.discriminative, 2 * number + 2, 2 * number + 1) if placed else np.zeros(sprite.alpha.shape)
    np.copyto(owner[region], tags[part].astype(np.int16), where=sprite.mask[part])
    objects = [*canvas.placed, *([placed] if placed else [])]
    if not all(_is_visible(owner, n, item) for n, item in enumerate(objects)):
        return False
    _cast_shadow(canvas.image, sprite.alpha, corner)
    alpha = sprite.alpha[part][..., None]
    canvas.image[region] = canvas.image[region] * (1 - alpha) + sprite.rgb[part]
    canvas.owner, canvas.placed = owner, objects
    return True


def _overlap(
    canvas: tuple[int, ...], sprite: tuple[int, ...], corner: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The rectangle that both share, in the pixels of the canvas and of the sprite."""
    x, y = corner
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + sprite[1], canvas[1]), min(y + sprite[0], canvas[0])
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def _is_visible(owner: NDArray[np.int16], number: int, placed: _Placed) -> bool:
    discriminative_px = np.count_nonzero(owner == 2 * number + 2)
    area_px = np.count_nonzero(owner == 2 * number + 1) + discriminative_px
    return bool(
        area_px >= max(1, MIN_VISIBLE * placed.area_px) and discriminative_px >= MIN_VISIBLE * placed.discriminative_px
    )


def _cast_shadow(image: Rgb, alpha: Plane, corner: tuple[int, int]) -> None:
    """Darken the image, in place, below and to the right of a sprite."""
    reach = max(alpha.shape) // 16 + 1
    soft = cv2.blur(np.pad(alpha, reach), (2 * reach + 1, 2 * reach + 1), borderType=cv2.BORDER_CONSTANT)
    region, part = _overlap(image.shape, soft.shape, (corner[0] - reach // 2, corner[1] - reach // 2))
    image[region] *= (1 - np.float32(0.5) * soft[part])[..., None]


def _ground_truth(canvas: _Canvas, number: int) -> SceneObject:
    discriminative = canvas.owner == 2 * number + 2
    mask = discriminative | (canvas.owner == 2 * number + 1)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
    placed = canvas.placed[number]
    return SceneObject(placed.category, box, mask, discriminative, placed.size)
