"""The six classes, drawn from parts: pairs of classes share a body and differ in a smaller, discriminative part.

    post    plinth and post       lantern (its lamp)         signpost (its board)
    crate   box of planks         wagon (its wheels)         chest (its domed lid)
    scaly   scaled oval           fish (its fins and tail)   turtle (its head and flippers)

A body alone is a distractor: it looks like an object, but belongs to no class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mining.synthetic.textures import (
    Paint,
    Rgb,
    dots,
    glow,
    grid,
    hsv,
    mottled,
    scales,
    spokes,
    stripes,
    wood,
)

Outline = NDArray[np.float64]
"""(N, 2) corners of a polygon, x to the right, y down, about -1 to 1."""


@dataclass(frozen=True)
class Part:
    """One painted polygon.

    Attributes:
        outline: The polygon.
        paint: Its texture.
        is_discriminative: Whether it shows the class, rather than the body that two classes share.
    """

    outline: Outline
    paint: Paint
    is_discriminative: bool = False


Figure = list[Part]
"""Parts, back to front."""


def _polygon(*corners: tuple[float, float]) -> Outline:
    return np.array(corners, np.float64)


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> Outline:
    return _polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _ellipse(x: float, y: float, across: float, down: float, *, turn: float = 0.0, arc: float = 2 * np.pi) -> Outline:
    """An ellipse with half axes `across` and `down`, rotated by `turn` radians; its upper half if `arc` is pi."""
    angles = np.pi + np.linspace(0, arc, 48)
    points = np.stack([across * np.cos(angles), down * np.sin(angles)], 1)
    cosine, sine = np.cos(turn), np.sin(turn)
    return points @ np.array([[cosine, sine], [-sine, cosine]]) + (x, y)


def _wood_colour(rng: Generator) -> Rgb:
    return hsv(rng.uniform(0.03, 0.12), rng.uniform(0.3, 0.75), rng.uniform(0.5, 0.9))


def post_body(rng: Generator) -> Figure:
    """A wooden post on a stone plinth of two steps."""
    stone = rng.uniform(90, 200)
    masonry = grid(np.full(3, stone, np.float32), np.full(3, stone * 0.5, np.float32), count=9, brick=True)
    half = rng.uniform(0.2, 0.26)
    return [
        Part(_rectangle(-half, -0.95, half, 0.6), wood(_wood_colour(rng), planks=6, upright=True)),
        Part(_polygon((-0.45, 0.45), (0.45, 0.45), (0.5, 0.75), (-0.5, 0.75)), masonry),
        Part(_rectangle(-0.65, 0.72, 0.65, 1.0), masonry),
    ]


def crate_body(rng: Generator) -> Figure:
    """A box of planks with two upright battens."""
    colour = _wood_colour(rng)
    battens = wood(colour * np.float32(0.65), planks=2, upright=True)
    top, foot = -0.42, 0.48
    return [
        Part(_polygon((-1, top), (1, top), (0.92, foot), (-0.92, foot)), wood(colour, planks=rng.uniform(6, 9))),
        Part(_rectangle(-0.78, top, -0.64, foot), battens),
        Part(_rectangle(0.64, top, 0.78, foot), battens),
    ]


def scaly_body(rng: Generator) -> Figure:
    """A scaled oval; each scale has a rim of another shade."""
    hue = rng.uniform(0, 1)
    colour = hsv(hue, rng.uniform(0.3, 0.8), rng.uniform(0.6, 1))
    rim = hsv(hue + rng.uniform(-0.1, 0.1), 0.8, rng.uniform(0.15, 0.4))
    return [Part(_ellipse(0, 0, 0.72, 0.5), scales(colour, rim, rows=rng.uniform(10, 15)))]


def lantern(rng: Generator) -> Figure:
    """The post with a glowing lamp behind bars."""
    hue, half = rng.uniform(0.02, 0.17), rng.uniform(0.4, 0.47)
    iron = np.full(3, rng.uniform(15, 60), np.float32)
    light = glow(hsv(hue, 0.2, 1), hsv(hue, 0.9, 0.85), centre=(0, -0.55), radius=0.5)
    glass = _polygon((-half, -0.85), (half, -0.85), (half * 0.7, -0.22), (-half * 0.7, -0.22))
    bars = [_rectangle(x - 0.03, -0.86, x + 0.03, -0.2) for x in (-half * 0.6, 0, half * 0.6)]
    iron_work = mottled(iron, iron * np.float32(1.8))
    roof = _polygon((-half - 0.1, -0.82), (-0.12, -1.12), (0.12, -1.12), (half + 0.1, -0.82))
    tray = _rectangle(-half * 0.8, -0.26, half * 0.8, -0.16)
    lamp = [Part(glass, light, True), *(Part(piece, iron_work, True) for piece in (*bars, roof, tray))]
    return [*post_body(rng), *lamp]


def signpost(rng: Generator) -> Figure:
    """The post with a lettered board that points sideways."""
    hue, y = rng.uniform(0, 1), rng.uniform(-0.75, -0.55)
    ground, ink = hsv(hue, rng.uniform(0, 0.25), rng.uniform(0.85, 1)), hsv(hue + 0.5, 0.8, rng.uniform(0.15, 0.45))
    half = rng.uniform(0.25, 0.29)
    board = _polygon((-0.72, y - half), (0.5, y - half), (0.85, y), (0.5, y + half), (-0.72, y + half))
    inner = (board - (0, y)) * (0.9, 0.8) + (0, y)
    letters = [
        Part(_rectangle(x, y - half * 0.4, x + rng.uniform(0.06, 0.13), y + half * 0.4), mottled(ink, ink), True)
        for x in np.arange(-0.52, 0.42, 0.19)
    ]
    frame = Part(board, mottled(ink, ink * np.float32(1.3)), True)
    return [*post_body(rng), frame, Part(inner, mottled(ground, ground * np.float32(0.9)), True), *letters]


def wagon(rng: Generator) -> Figure:
    """The crate on two spoked wheels."""
    hue, radius = rng.uniform(0, 1), rng.uniform(0.33, 0.39)
    spoke, gap = hsv(hue, rng.uniform(0.4, 1), rng.uniform(0.6, 1)), np.full(3, rng.uniform(10, 50), np.float32)
    count, turn, spread = int(rng.integers(6, 10)), rng.uniform(0, 6), rng.uniform(0.5, 0.6)
    wheels = [
        Part(
            _ellipse(x, 0.52, radius, radius),
            spokes(spoke, gap, centre=(x, 0.52), radius=radius, count=count, turn=turn),
            True,
        )
        for x in (-spread, spread)
    ]
    return [*crate_body(rng), *wheels]


def chest(rng: Generator) -> Figure:
    """The crate under a domed lid with metal bands and a lock."""
    metal = hsv(rng.uniform(0.08, 0.16), rng.uniform(0.1, 0.7), rng.uniform(0.7, 1))
    leather = hsv(rng.uniform(0, 1), rng.uniform(0.4, 0.8), rng.uniform(0.25, 0.6))
    lid = _ellipse(0, -0.36, 1.06, rng.uniform(0.5, 0.62), arc=np.pi)
    lock = _rectangle(-0.14, -0.48, 0.14, -0.16)
    keyhole = _ellipse(0, -0.32, 0.05, 0.08)
    dark = np.full(3, 20, np.float32)
    return [
        *crate_body(rng),
        Part(lid, stripes(leather, metal, count=rng.uniform(3.5, 5)), True),
        Part(_rectangle(-1.06, -0.44, 1.06, -0.34), dots(metal, metal * np.float32(0.5), count=16), True),
        Part(lock, mottled(metal, metal * np.float32(0.8)), True),
        Part(keyhole, mottled(dark, dark), True),
    ]


def fish(rng: Generator) -> Figure:
    """The scaled oval with striped tail and fins, and an eye."""
    hue = rng.uniform(0, 1)
    ray = stripes(hsv(hue, 0.9, 1), hsv(hue + rng.uniform(0.1, 0.5), 0.6, rng.uniform(0.3, 0.9)), count=9, angle=1.4)
    spread = rng.uniform(0.42, 0.55)
    tail = _polygon((0.55, 0), (1.15, -spread), (1.0, 0), (1.15, spread))
    back = _polygon((-0.35, -0.4), (0.05, -0.78), (0.5, -0.68), (0.45, -0.32))
    belly = _polygon((-0.05, 0.42), (0.2, 0.72), (0.45, 0.68), (0.4, 0.34))
    white, black = np.full(3, 245, np.float32), np.full(3, 15, np.float32)
    return [
        *(Part(fin, ray, True) for fin in (tail, back, belly)),
        *scaly_body(rng),
        Part(_ellipse(-0.45, -0.12, 0.12, 0.12), mottled(white, white), True),
        Part(_ellipse(-0.47, -0.12, 0.06, 0.06), mottled(black, black), True),
    ]


def turtle(rng: Generator) -> Figure:
    """The scaled oval with a spotted head and four spotted flippers."""
    hue = rng.uniform(0.15, 0.5)
    ground, dot = hsv(hue, rng.uniform(0.3, 0.8), rng.uniform(0.6, 0.95)), hsv(hue, 0.9, rng.uniform(0.15, 0.4))
    skin = dots(ground, dot, count=rng.uniform(13, 17))
    limbs = [
        _ellipse(x, y, 0.4, 0.18, turn=turn + rng.uniform(-0.15, 0.15))
        for x, y, turn in ((-0.5, -0.5, 0.9), (0.5, -0.5, -0.9), (-0.5, 0.5, -0.9), (0.5, 0.5, 0.9))
    ]
    black = np.full(3, 10, np.float32)
    head = _ellipse(-0.86, 0, 0.31, 0.25)
    return [
        *(Part(limb, skin, True) for limb in (*limbs, head)),
        *scaly_body(rng),
        *(Part(_ellipse(-1.0, y, 0.06, 0.06), mottled(black, black), True) for y in (-0.1, 0.1)),
    ]


def debris(rng: Generator) -> Figure:
    """A textured polygon or blob that belongs to no class."""
    hue, count = rng.uniform(0, 1), int(rng.integers(3, 9))
    first = hsv(hue, rng.uniform(0.2, 0.9), rng.uniform(0.4, 1))
    second = hsv(hue + rng.uniform(0.1, 0.9), rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.9))
    paints = (mottled(first, second), stripes(first, second, count=rng.uniform(3, 8)), grid(first, second, count=6))
    angles = np.sort(rng.uniform(0, 2 * np.pi, count)) if rng.random() < 0.5 else np.linspace(0, 2 * np.pi, 25)[:-1]
    reach = rng.uniform(0.6, 1, len(angles))
    outline = np.stack([reach * np.cos(angles), reach * np.sin(angles)], 1)
    return [Part(outline, paints[int(rng.integers(len(paints)))])]


Maker = Callable[[Generator], Figure]
FIGURES: dict[str, Maker] = {
    "chest": chest,
    "fish": fish,
    "lantern": lantern,
    "signpost": signpost,
    "turtle": turtle,
    "wagon": wagon,
}
CLASSES: tuple[str, ...] = tuple(FIGURES)
"""Class names in the order of their indices."""
DISTRACTORS: Sequence[Maker] = (post_body, crate_body, scaly_body, *[debris] * 5)
