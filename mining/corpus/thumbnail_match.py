"""Decide whether two thumbnails show the same photo, although one may be cropped, rotated, brighter or grey."""

from typing import Any, NamedTuple

import cv2
import numpy as np

from mining.arrays import Bools, Bytes, FloatMap
from mining.corpus.thumbnails import CHROMA_SIDE, SIDE, Thumbnail

# chosen on changed copies and on all pairs of photos of five datasets, see docs/guides/export.md
MIN_CORRELATION = 0.95  # of the grey values
MIN_DETAIL_CORRELATION = 0.5  # of the grey values without what is larger than 3 px
MAX_LOCAL_DIFFERENCE = 0.5  # of the grey values' means in 6 x 6 px, in standard deviations
MAX_SHIFT = 0.12  # of a corner, in sides of the thumbnail
MAX_COLOUR_DIFFERENCE = 0.6  # of the chroma, in its own size
MIN_CONTRAST = 4.0  # standard deviation of the grey values; below it there is nothing to compare
_GREY = 2.0  # mean absolute chroma of a grey image, or of one whose colours are as weak
_ROUGH = 0.8  # the correlation after rough alignment from which on it is refined
_NEAR = 0.985  # a correlation at which alignment is not necessary
_MARGIN = 2  # px: crops leave a part of the border
_MIN_OVERLAP = 0.6
_BLOCK = SIDE // 8
_FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 1e-4)
_CORNERS = np.array([[0, 0, 1], [SIDE, 0, 1], [0, SIDE, 1], [SIDE, SIDE, 1]], np.float32)
_IDENTITY = np.eye(2, 3, dtype=np.float32)


class Match(NamedTuple):
    """How well two aligned thumbnails fit.

    Attributes:
        correlation: Of the grey values, -1 to 1.
        detail_correlation: Of the differences of Gaussians (1 and 3 px) of the grey values, -1 to 1.
        local_difference: Largest difference of the means of 6 x 6 px, in standard deviations.
        shift: Largest shift of a corner by the alignment, in sides.
        contrast: Smaller standard deviation of the grey values.
    """

    correlation: float
    detail_correlation: float
    local_difference: float
    shift: float
    contrast: float

    @property
    def fits(self) -> bool:
        """Whether the grey values are those of one photo."""
        return (
            self.correlation >= MIN_CORRELATION
            and self.detail_correlation >= MIN_DETAIL_CORRELATION
            and self.local_difference <= MAX_LOCAL_DIFFERENCE
            and self.shift <= MAX_SHIFT
            and self.contrast >= MIN_CONTRAST
        )


def show_same_photo(first: Thumbnail, second: Thumbnail, *, is_mirrored: bool = False) -> bool:
    """Return whether one image is a changed copy of the other.

    The second one is aligned with the first by an affine map close to the identity. Then the grey values have to
    correlate, as a whole and in detail, and no part may differ: the same scene with another object in it does not fit.

    Args:
        first: The one.
        second: The other.
        is_mirrored: Compare the mirror image of the second one.
    """
    luma, chroma = second.luma, second.chroma
    if is_mirrored:
        luma, chroma = luma[:, ::-1], chroma[:, ::-1]
    match, warp = align(first.luma, luma)
    return match is not None and match.fits and _have_like_colours(first.chroma, chroma, warp)


def align(first: Bytes, second: Bytes) -> tuple[Match | None, Any]:
    """Find the affine map by which the second image fits the first best.

    Args:
        first: (SIDE, SIDE) uint8.
        second: (SIDE, SIDE) uint8.

    Returns:
        How well they fit, None without contrast; and the map, (2, 3) float32.
    """
    one, other = first.astype(np.float32), np.ascontiguousarray(second).astype(np.float32)
    if min(one.std(), other.std()) < MIN_CONTRAST:
        return None, _IDENTITY
    best, warp = _match(one, other, _IDENTITY), _IDENTITY
    if best is not None and best.correlation >= _NEAR:
        return best, warp
    ecc: Any = cv2.findTransformECC  # its type hints forbid that there is no mask
    try:
        _, rough = ecc(_halved(one), _halved(other), _IDENTITY.copy(), cv2.MOTION_AFFINE, _STEPS, None, 5)
        rough[:, 2] = 2 * rough[:, 2] + (rough[:, :2].sum(axis=1) - 1) / -2
        match = _match(one, other, rough)
        if match is None or match.correlation < _ROUGH:
            return best, warp
        if best is None or match.correlation > best.correlation:
            best, warp = match, rough.copy()
        _, fine = ecc(one, other, rough, cv2.MOTION_AFFINE, _STEPS, None, 3)
    except cv2.error:  # it does not converge
        return best, warp
    match = _match(one, other, fine)
    if match is not None and (best is None or match.correlation > best.correlation):
        best, warp = match, fine
    return best, warp


def _halved(image: FloatMap) -> FloatMap:
    return np.asarray(cv2.resize(image, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA))


def _match(one: FloatMap, other: FloatMap, warp: Any) -> Match | None:
    """None if too small a part of the images overlaps."""
    moved: Any = cv2.warpAffine(other, warp, (SIDE, SIDE), flags=_FLAGS)
    is_common = _common_part(warp)
    if is_common.mean() < _MIN_OVERLAP:
        return None
    x, y = _standardised(one, is_common), _standardised(moved, is_common)
    difference = np.where(is_common, x - y, 0.0).astype(np.float32)
    return Match(
        correlation=float((x * y)[is_common].mean()),
        detail_correlation=_correlation(_detail(one)[is_common], _detail(moved)[is_common]),
        local_difference=float(np.abs(cv2.blur(difference, (_BLOCK, _BLOCK)))[is_common].max()),
        shift=float(np.abs(_CORNERS @ np.asarray(warp).T - _CORNERS[:, :2]).max() / SIDE),
        contrast=float(min(one[is_common].std(), moved[is_common].std())),
    )


def _common_part(warp: Any) -> Bools:
    """(SIDE, SIDE), where both images have pixels, without a margin."""
    inside = cv2.warpAffine(np.ones((SIDE, SIDE), np.float32), warp, (SIDE, SIDE), flags=_FLAGS) > 0.99
    inside = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    is_common = np.zeros((SIDE, SIDE), np.bool_)
    middle = slice(_MARGIN, SIDE - _MARGIN)
    is_common[middle, middle] = inside[middle, middle]
    return is_common


def _standardised(image: FloatMap, where: Bools) -> FloatMap:
    some = image[where]
    return (image - some.mean()) / (some.std() + 1e-6)


def _detail(image: FloatMap) -> FloatMap:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1) - cv2.GaussianBlur(image, (0, 0), 3))


def _correlation(x: FloatMap, y: FloatMap) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (np.sqrt((x * x).sum() * (y * y).sum()) + 1e-6))


def _have_like_colours(first: Bytes, second: Bytes, warp: Any) -> bool:
    """Whether the colours are the same up to their saturation; a grey image fits any."""
    scale = SIDE / CHROMA_SIDE
    small = np.array(warp, np.float32)
    small[:, 2] = (small[:, 2] + (scale - 1) / 2 * (small[:, :2].sum(axis=1) - 1)) / scale
    size = (CHROMA_SIDE, CHROMA_SIDE)
    moved = cv2.warpAffine(
        np.ascontiguousarray(second).astype(np.float32) - 128,
        small,
        size,
        flags=_FLAGS,
        borderMode=cv2.BORDER_REPLICATE,
    )
    one, other = first[1:-1, 1:-1].astype(np.float32) - 128, moved[1:-1, 1:-1]
    if min(np.abs(one).mean(), np.abs(other).mean()) < _GREY:
        return True
    gain = max(0.0, float((one * other).sum()) / float((other * other).sum()))
    return float(np.linalg.norm(one - gain * other)) <= MAX_COLOUR_DIFFERENCE * float(np.linalg.norm(one))
