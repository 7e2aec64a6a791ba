"""Cluttered backgrounds: a texture, leaves or a horizon, in uneven light."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.random import Generator

from mining.synthetic.textures import Paint, Plane, Rgb, blend, dots, grid, hsv, noise, stripes, wood

Shape = tuple[int, int]


def background(rng: Generator, shape: Shape) -> Rgb:
    """Draw a random background, (H, W, 3) float32 in 0-255."""
    kind = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))]
    ground = kind(rng, shape)
    clouds = noise(rng, shape, cells=rng.uniform(2, 6), octaves=5)
    ground *= (np.float32(0.6) + np.float32(0.8) * clouds)[..., None]
    return np.clip(ground, 0, 255)


def relight(image: Rgb, rng: Generator) -> Rgb:
    """Add light from one side, broad soft shadows and sensor noise; same shape, clipped to 0-255."""
    height, width = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(np.cos(angle))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    shade = noise(rng, (height, width), cells=rng.uniform(1, 3), octaves=1)
    light = 1 + (x + y) * np.float32(rng.uniform(0, 0.2)) - np.float32(0.35) * (shade > 0.6) * (shade - 0.6) * 2.5
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(rng.uniform(1, 7))
    return np.clip(image * light[..., None].astype(np.float32) + grain, 0, 255)


def _muted(rng: Generator, value: tuple[float, float] = (0.25, 0.9)) -> Rgb:
    return hsv(rng.uniform(0, 1), rng.uniform(0.05, 0.6), rng.uniform(*value))


def _pair(rng: Generator) -> tuple[Rgb, Rgb]:
    """Two similar colours."""
    hue, saturation, value = rng.uniform(0, 1), rng.uniform(0.05, 0.6), rng.uniform(0.35, 0.9)
    other = hsv(hue + rng.uniform(-0.12, 0.12), saturation, value * rng.uniform(0.35, 0.85))
    return hsv(hue, saturation, value), other


def _coordinates(rng: Generator, shape: Shape) -> tuple[Plane, Plane]:
    """Rotated coordinates, -1 to 1 over the longer side."""
    turn = rng.uniform(0, np.pi)
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :] * np.float32(shape[1] / max(shape))
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None] * np.float32(shape[0] / max(shape))
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return cosine * x + sine * y, cosine * y - sine * x


def _textured(rng: Generator, shape: Shape) -> Rgb:
    """One texture everywhere: striped cloth, tiles, bricks, floor boards or dots."""
    first, second = _pair(rng)
    fine, coarse = rng.uniform(10, 24), rng.uniform(5, 14)
    paints: Sequence[Paint] = (
        stripes(first, second, count=coarse, wobble=rng.uniform(0, 1.5)),
        grid(first, second, count=coarse),
        grid(first, second, count=fine, brick=True),
        wood(first, planks=coarse),
        dots(first, second, count=fine),
    )
    u, v = _coordinates(rng, shape)
    return paints[int(rng.integers(len(paints)))](u, v, rng)


def _clouded(rng: Generator, shape: Shape) -> Rgb:
    """Two kinds of noise in three colours, as on a wall or a meadow."""
    first, second = _pair(rng)
    broad = noise(rng, shape, cells=rng.uniform(2, 8), octaves=5)
    fine = noise(rng, shape, cells=rng.uniform(20, 60), octaves=2, stretch=float(rng.choice([0.2, 1.0, 4.0])))
    return blend(blend(first, second, broad), _muted(rng), fine * np.float32(0.5))


def _leafy(rng: Generator, shape: Shape) -> Rgb:
    """Overlapping leaf-like blobs, the lower ones darker."""
    image = np.ascontiguousarray(np.broadcast_to(_muted(rng, (0.15, 0.4)), (*shape, 3)))
    hue, count, reach = rng.uniform(0, 1), int(rng.integers(60, 160)), min(shape)
    for number in range(count):
        value = 0.3 + 0.5 * number / count + rng.uniform(-0.1, 0.1)
        colour = hsv(hue + rng.uniform(-0.08, 0.08), rng.uniform(0.2, 0.7), value)
        centre = (int(rng.uniform(0, shape[1])), int(rng.uniform(0, shape[0])))
        half = reach * rng.uniform(0.03, 0.12)
        axes = (int(half) + 1, int(half * rng.uniform(0.25, 0.6)) + 1)
        turn = rng.uniform(0, 360)
        cv2.ellipse(image, centre, axes, turn, 0, 360, colour.tolist(), -1, cv2.LINE_AA)
        cv2.ellipse(image, centre, (axes[0], 0), turn, 0, 360, (colour * 0.6).tolist(), 1, cv2.LINE_AA)
    return image


def _horizon(rng: Generator, shape: Shape) -> Rgb:
    """A bright gradient above a textured ground."""
    top, bottom = hsv(rng.uniform(0.45, 0.7), rng.uniform(0.2, 0.7), 0.9), _muted(rng, (0.7, 1))
    line = int(shape[0] * rng.uniform(0.25, 0.7))
    fall = np.linspace(0, 1, line, dtype=np.float32)[:, None] * np.ones((1, shape[1]), np.float32)
    ground = _clouded(rng, (shape[0] - line, shape[1]))
    return np.concatenate([blend(top, bottom, fall), ground])


BACKGROUNDS: Sequence[Callable[[Generator, Shape], Rgb]] = (_textured, _textured, _clouded, _leafy, _leafy, _horizon)
