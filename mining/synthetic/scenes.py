"""Scenes: objects among distractors on a background, and the exact truth about them."""

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
    """One object of a scene.

    box: (4,) float32 xyxy in pixels, half-open: the tight box of `mask`.
    mask: (H, W) bool, the object's visible pixels: inside the image and not covered by what lies in front.
    telling: (H, W) bool, those of them whose part tells the class.
    size: longest side of the whole object as a share of the image's short side.
    """

    category: int
    box: NDArray[np.float32]
    mask: NDArray[np.bool_]
    telling: NDArray[np.bool_]
    size: float


@dataclass(frozen=True)
class Scene:
    """One generated image, (H, W, 3) uint8 RGB, and its objects from back to front."""

    rgb: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True)
class _Placed:
    category: int
    size: float
    area_px: int
    telling_px: int


@dataclass
class _Stage:
    """The image while it is being laid, and which object each pixel shows.

    owner: (H, W) int; 0 for none, else 2 n + 1 where object n shows its body and 2 n + 2 where its telling part.
    """

    image: Rgb
    owner: NDArray[np.int16]
    placed: list[_Placed] = field(default_factory=list)


def compose(index: int, *, seed: int = 0, size: tuple[int, int] = DEFAULT_SIZE) -> Scene:
    """Scene number `index` of the corpus that `seed` stands for; depends on nothing else but `size`.

    size: smallest and largest side of the image in pixels; width and height are drawn from it independently.
    An object is left out unless half of it, and half of the part that tells its class, is visible.
    Raises InputError for a negative index or seed, or an impossible size.
    """
    _check(index, seed, size)
    rng = np.random.default_rng([seed, index])
    width, height = (int(side) for side in rng.integers(size[0], size[1] + 1, 2))
    stage = _Stage(background(rng, (height, width)), np.zeros((height, width), np.int16))
    for _ in range(int(rng.integers(1, 5))):
        _put_distractor(stage, rng, largest=0.5)
    for _ in range(int(rng.choice(MAX_OBJECTS + 1, p=_COUNT_SHARES))):
        _put_object(stage, rng)
    for _ in range(int(rng.integers(0, 3))):
        _put_distractor(stage, rng, largest=0.3)
    rgb = np.round(relight(stage.image, rng)).astype(np.uint8)
    return Scene(rgb, tuple(_truth(stage, number) for number in range(len(stage.placed))))


def render(
    index: int, *, seed: int = 0, size: tuple[int, int] = DEFAULT_SIZE
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """Image (H, W, 3) uint8 RGB, boxes (n, 4) float32 xyxy in pixels, class indices (n,) of scene `index`; n is 0 to 4.

    Arguments, truth and errors as in `compose`.
    """
    scene = compose(index, seed=seed, size=size)
    boxes = np.array([truth.box for truth in scene.objects], np.float32).reshape(-1, 4)
    return scene.rgb, boxes, np.array([truth.category for truth in scene.objects], np.int64)


def _check(index: int, seed: int, size: tuple[int, int]) -> None:
    if index < 0 or seed < 0:
        raise InputError(f"Image number {index} of seed {seed}: both must be 0 or more.")
    if not SMALLEST_SIDE_PX <= size[0] <= size[1] <= LARGEST_SIDE_PX:
        raise InputError(
            f"Image size {size}: give the smallest and the largest side in pixels, "
            f"between {SMALLEST_SIDE_PX} and {LARGEST_SIDE_PX}, the smaller one first."
        )


def _put_object(stage: _Stage, rng: Generator) -> None:
    """Add an object of a random class and size, its size spread over three octaves."""
    category = int(rng.integers(len(CLASSES)))
    size = _SMALLEST * (_LARGEST / _SMALLEST) ** rng.beta(3, 1)
    sprite = draw_sprite(FIGURES[CLASSES[category]](rng), rng, longest_px=size * min(stage.owner.shape))
    placed = _Placed(category, size, int(sprite.mask.sum()), int(sprite.telling.sum()))
    for _ in range(_TRIES):
        if _put(stage, sprite, _corner(stage, sprite, rng), placed):
            return


def _put_distractor(stage: _Stage, rng: Generator, *, largest: float) -> None:
    """Add a body without the part that would make it an object, or a shape of no class."""
    figure = DISTRACTORS[int(rng.integers(len(DISTRACTORS)))](rng)
    sprite = draw_sprite(figure, rng, longest_px=rng.uniform(0.12, largest) * min(stage.owner.shape))
    for _ in range(_TRIES):
        if _put(stage, sprite, _corner(stage, sprite, rng), None):
            return


def _corner(stage: _Stage, sprite: Sprite, rng: Generator) -> tuple[int, int]:
    """Where the sprite's left upper corner goes; up to a fifth of it may leave the image at each side."""
    (height, width), (high, wide) = stage.owner.shape, sprite.alpha.shape
    return int(rng.uniform(-0.2 * wide, width - 0.8 * wide)), int(rng.uniform(-0.2 * high, height - 0.8 * high))


def _put(stage: _Stage, sprite: Sprite, corner: tuple[int, int], placed: _Placed | None) -> bool:
    """Lay the sprite over the stage, unless an object would be seen too little of; gives whether it was laid."""
    here, part = _overlap(stage.owner.shape, sprite.alpha.shape, corner)
    number = len(stage.placed)
    owner = stage.owner.copy()
    tags = np.where(sprite.telling, 2 * number + 2, 2 * number + 1) if placed else np.zeros(sprite.alpha.shape)
    np.copyto(owner[here], tags[part].astype(np.int16), where=sprite.mask[part])
    everyone = [*stage.placed, *([placed] if placed else [])]
    if not all(_is_seen(owner, n, one) for n, one in enumerate(everyone)):
        return False
    _cast_shadow(stage.image, sprite.alpha, corner)
    alpha = sprite.alpha[part][..., None]
    stage.image[here] = stage.image[here] * (1 - alpha) + sprite.rgb[part]
    stage.owner, stage.placed = owner, everyone
    return True


def _overlap(
    stage: tuple[int, ...], sprite: tuple[int, ...], corner: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The rectangle that both share, in the stage's pixels and in the sprite's."""
    x, y = corner
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + sprite[1], stage[1]), min(y + sprite[0], stage[0])
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def _is_seen(owner: NDArray[np.int16], number: int, placed: _Placed) -> bool:
    telling_px = np.count_nonzero(owner == 2 * number + 2)
    area_px = np.count_nonzero(owner == 2 * number + 1) + telling_px
    return bool(area_px >= max(1, MIN_VISIBLE * placed.area_px) and telling_px >= MIN_VISIBLE * placed.telling_px)


def _cast_shadow(image: Rgb, alpha: Plane, corner: tuple[int, int]) -> None:
    """Darken, in place, what lies below and to the right of a sprite's rim."""
    reach = max(alpha.shape) // 16 + 1
    soft = cv2.blur(np.pad(alpha, reach), (2 * reach + 1, 2 * reach + 1), borderType=cv2.BORDER_CONSTANT)
    here, part = _overlap(image.shape, soft.shape, (corner[0] - reach // 2, corner[1] - reach // 2))
    image[here] *= (1 - np.float32(0.5) * soft[part])[..., None]


def _truth(stage: _Stage, number: int) -> SceneObject:
    telling = stage.owner == 2 * number + 2
    mask = telling | (stage.owner == 2 * number + 1)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
    placed = stage.placed[number]
    return SceneObject(placed.category, box, mask, telling, placed.size)
