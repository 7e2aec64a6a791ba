"""Draw figures: pose, anti-aliased polygons, lighting."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mining.synthetic.objects import Figure, Outline, Part
from mining.synthetic.textures import Plane, Rgb

MAX_TURN_DEGREES = 25
_SUPERSAMPLING = 2
_MARGIN_PX = 2  # OpenCV's anti-aliased polygons extend a third of a pixel beyond their outline
_SHIFT = 4  # fractional bits of OpenCV's polygon coordinates


@dataclass(frozen=True)
class Sprite:
    """A drawn figure.

    Attributes:
        rgb: (h, w, 3) float32 in 0-255, premultiplied by alpha.
        alpha: (h, w) float32 in 0-1; a pixel belongs to the figure from 0.5 on.
        discriminative: (h, w) bool, the pixels of the figure that show a discriminative part.
    """

    rgb: Rgb
    alpha: Plane
    discriminative: NDArray[np.bool_]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(h, w) bool, True where a pixel belongs to the figure."""
        return self.alpha >= 0.5


def random_pose(rng: Generator) -> NDArray[np.float64]:
    """Draw a random (2, 2) transformation: aspect ratio, mirroring, and rotation by up to 25 degrees either way."""
    aspect = np.exp(rng.uniform(-0.25, 0.25))
    mirror = rng.choice([-1.0, 1.0])
    turn = np.deg2rad(rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return rotation @ np.diag([mirror * np.sqrt(aspect), 1 / np.sqrt(aspect)])


def draw_sprite(figure: Figure, rng: Generator, *, longest_px: float) -> Sprite:
    """Draw a figure in a random pose and light.

    Args:
        figure: Its parts.
        rng: Source of randomness.
        longest_px: Longest side in pixels.
    """
    pose = random_pose(rng)
    corners = np.concatenate([part.outline for part in figure]) @ pose.T
    low, high = corners.min(0), corners.max(0)
    scale = longest_px / float((high - low).max())
    width, height = (int(side) for side in np.ceil((high - low) * scale) + 2 * _MARGIN_PX)
    to_pixels, offset = pose * scale, _MARGIN_PX - low * scale
    rgb, alpha, discriminative = (np.zeros((height, width, *more), np.float32) for more in ((3,), (), ()))
    for part in figure:
        _add(part, to_pixels, offset, rng, rgb, alpha, discriminative)
    light = _light(rng, (height, width)) * rng.uniform(0.75, 1.15)
    return Sprite(
        np.clip(rgb * light[..., None].astype(np.float32), 0, 255), alpha, (discriminative >= 0.5) & (alpha >= 0.5)
    )


def _add(
    part: Part, to_pixels: Outline, offset: Outline, rng: Generator, rgb: Rgb, alpha: Plane, discriminative: Plane
) -> None:
    """Draw one part over the others, only within its bounding rectangle."""
    outline = part.outline @ to_pixels.T + offset
    x0, y0 = np.maximum(np.floor(outline.min(0)).astype(int) - _MARGIN_PX, 0)
    x1, y1 = np.minimum(np.ceil(outline.max(0)).astype(int) + _MARGIN_PX, (alpha.shape[1], alpha.shape[0]))
    region = np.s_[y0:y1, x0:x1]
    cover = _coverage(outline - (x0, y0), (y1 - y0, x1 - x0))
    u, v = _local(np.linalg.inv(to_pixels), (x0, y0) - offset, cover.shape)
    volume = 0.55 + 0.45 * cv2.blur(cover, (max(cover.shape) // 8 * 2 + 1,) * 2)
    colour = np.clip(part.paint(u, v, rng), 0, 255) * volume[..., None].astype(np.float32)
    rgb[region] += (colour - rgb[region]) * cover[..., None]
    alpha[region] += (1 - alpha[region]) * cover
    discriminative[region] += (float(part.is_discriminative) - discriminative[region]) * cover


def _coverage(outline: Outline, shape: tuple[int, int]) -> Plane:
    """(h, w) share of each pixel covered by the polygon."""
    fine = np.zeros((shape[0] * _SUPERSAMPLING, shape[1] * _SUPERSAMPLING), np.uint8)
    # integer coordinates are pixel centres in OpenCV
    corners = np.round((outline * _SUPERSAMPLING - 0.5) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(fine, [corners], (255,), cv2.LINE_AA, _SHIFT)
    return cv2.resize(fine, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def _local(
    to_figure: NDArray[np.floating], corner: NDArray[np.floating], shape: tuple[int, ...]
) -> tuple[Plane, Plane]:
    """Coordinates of the pixel centres in the figure's own system."""
    x = (np.arange(shape[1]) + 0.5 + corner[0]).astype(np.float32)[None, :]
    y = (np.arange(shape[0]) + 0.5 + corner[1]).astype(np.float32)[:, None]
    m = to_figure.astype(np.float32)
    return m[0, 0] * x + m[0, 1] * y, m[1, 0] * x + m[1, 1] * y


def _light(rng: Generator, shape: tuple[int, int]) -> Plane:
    """(h, w) brightness that decreases to one side."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.35)
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :] * np.float32(np.cos(angle))
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    return 1 + (x + y) * np.float32(strength)
