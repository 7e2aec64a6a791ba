"""Noise and textures of the surfaces in generated images."""

import colorsys
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Plane = NDArray[np.float32]
"""(H, W) float32."""
Rgb = NDArray[np.float32]
"""(H, W, 3) float32, or (3,) for one colour; 0 to 255."""
Paint = Callable[[Plane, Plane, Generator], Rgb]
"""A texture: maps coordinates u (to the right) and v (down), each (H, W), about -1 to 1, to (H, W, 3) colours."""


def hsv(hue: float, saturation: float, value: float) -> Rgb:
    """Convert a colour to RGB; the hue wraps around at 1, the others are clipped to 0-1."""
    s, v = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, s, v), np.float32) * np.float32(255)


def blend(first: Rgb, second: Rgb, share: Plane) -> Rgb:
    """Blend two colours, (3,) or (H, W, 3); `share` is (H, W), 0 for `first` and 1 for `second`."""
    return first + (second - first) * share[..., None]


def step(values: Plane, edge: float, softness: float) -> Plane:
    """A soft step: 0 below `edge`, 1 above it, linear over `softness` around it."""
    return np.clip((values - np.float32(edge)) / np.float32(softness) + np.float32(0.5), 0, 1)


def noise(rng: Generator, shape: tuple[int, int], *, cells: float, octaves: int = 3, stretch: float = 1.0) -> Plane:
    """Draw smooth noise in 0-1; each octave is twice as fine and half as strong as the previous one.

    Args:
        rng: Source of randomness.
        shape: Height and width.
        cells: Number of cells of the coarsest octave along the longer side.
        octaves: Number of octaves.
        stretch: Width of a cell divided by its height.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        cell = max(max(shape) / (cells * 2**octave), 1.0)
        rows, columns = max(int(height / cell), 1) + 1, max(int(width / (cell * stretch)), 1) + 1
        coarse = rng.random((rows, columns), dtype=np.float32) - np.float32(0.5)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(0.5**octave)
    return np.clip(total + np.float32(0.5), 0, 1)


def mottled(first: Rgb, second: Rgb, *, cells: float = 6) -> Paint:
    """Patches of two colours that blend into each other, as on stone or skin."""

    def paint(u: Plane, _v: Plane, rng: Generator) -> Rgb:
        return blend(first, second, noise(rng, u.shape, cells=cells))

    return paint


def wood(colour: Rgb, *, planks: float, upright: bool = False) -> Paint:
    """Planks with dark seams and a grain along them; `planks` is their number over a length of 2."""

    def paint(u: Plane, v: Plane, rng: Generator) -> Rgb:
        across = u if upright else v
        place = (across * np.float32(planks / 2)) % 1
        grain = noise(rng, u.shape, cells=20, octaves=2, stretch=0.15 if upright else 6)
        seam = step(np.abs(place - np.float32(0.5)), 0.44, 0.05)
        return blend(colour * np.float32(0.7) + grain[..., None] * np.float32(75), colour * np.float32(0.25), seam)

    return paint


def scales(colour: Rgb, rim: Rgb, *, rows: float) -> Paint:
    """Overlapping round scales with a dark rim; `rows` is their number over a length of 2."""

    def paint(u: Plane, v: Plane, rng: Generator) -> Rgb:
        along, down = u * np.float32(rows / 2), v * np.float32(rows / 2)
        row = np.floor(down)
        beside = (along + np.float32(0.5) * (row % 2)) % 1 - np.float32(0.5)
        distance = np.sqrt(beside**2 + ((down - row) * np.float32(0.6)) ** 2)
        speckle = noise(rng, u.shape, cells=12, octaves=2)[..., None] * np.float32(50) - np.float32(25)
        return blend(colour, rim, np.clip(distance * np.float32(1.7) - np.float32(0.1), 0, 1)) + speckle

    return paint


def stripes(first: Rgb, second: Rgb, *, count: float, angle: float = 0.0, wobble: float = 0.0) -> Paint:
    """Soft-edged stripes: `count` pairs over a length of 2, `angle` in radians (0 is vertical), `wobble` in stripes."""

    def paint(u: Plane, v: Plane, rng: Generator) -> Rgb:
        along = u * np.float32(np.cos(angle)) + v * np.float32(np.sin(angle))
        if wobble:
            along = along + noise(rng, u.shape, cells=4, octaves=2) * np.float32(wobble * 2 / count)
        return blend(first, second, step(np.sin(along * np.float32(np.pi * count)), 0, 0.7))

    return paint


def grid(cell: Rgb, line: Rgb, *, count: float, brick: bool = False, thickness: float = 0.12) -> Paint:
    """Square tiles or bricks with lines between them: `count` over a length of 2, `thickness` as a share of a tile."""

    def paint(u: Plane, v: Plane, rng: Generator) -> Rgb:
        down = v * np.float32(count / 2)
        shift = np.float32(0.5) * (np.floor(down) % 2) if brick else np.float32(0)
        along = u * np.float32(count / (4 if brick else 2)) + shift
        near = np.minimum(_to_edge(along) * (2 if brick else 1), _to_edge(down))
        tint = noise(rng, u.shape, cells=count, octaves=3)[..., None] * np.float32(70) - np.float32(35)
        return blend(line, cell + tint, step(near, thickness / 2, 0.06))

    return paint


def _to_edge(values: Plane) -> Plane:
    return np.float32(0.5) - np.abs(values % 1 - np.float32(0.5))


def dots(ground: Rgb, dot: Rgb, *, count: float, radius: float = 0.3) -> Paint:
    """Round dots in staggered rows: `count` over a length of 2, `radius` as a share of their distance."""

    def paint(u: Plane, v: Plane, _rng: Generator) -> Rgb:
        down = v * np.float32(count / 2)
        along = u * np.float32(count / 2) + np.float32(0.5) * (np.floor(down) % 2)
        distance = np.hypot(along % 1 - np.float32(0.5), down % 1 - np.float32(0.5))
        return blend(dot, ground, step(distance, radius, 0.12))

    return paint


def glow(middle: Rgb, rim: Rgb, *, centre: tuple[float, float], radius: float) -> Paint:
    """A glow that fades from the middle to the rim colour at `radius`."""

    def paint(u: Plane, v: Plane, _rng: Generator) -> Rgb:
        distance = np.hypot(u - np.float32(centre[0]), v - np.float32(centre[1])) / np.float32(radius)
        return blend(middle, rim, np.clip(distance, 0, 1))

    return paint


def spokes(spoke: Rgb, gap: Rgb, *, centre: tuple[float, float], radius: float, count: int, turn: float) -> Paint:
    """A wheel: hub, tyre and `count` spokes in one colour, the gaps in another; `turn` in radians."""

    def paint(u: Plane, v: Plane, _rng: Generator) -> Rgb:
        x, y = u - np.float32(centre[0]), v - np.float32(centre[1])
        distance = np.hypot(x, y) / np.float32(radius)
        bars = step(np.cos(np.arctan2(y, x) * np.float32(count) + np.float32(turn)), 0.55, 0.5)
        ring = np.maximum(step(distance, 0.74, 0.08), step(-distance, -0.26, 0.08))
        return blend(gap, spoke, np.maximum(bars, ring))

    return paint
