"""What plans ask people, and what they answer: boxes and whole images."""

from dataclasses import dataclass
from typing import Literal, get_args

Verdict = Literal["correct", "too_large", "too_small", "wrong_place", "wrong_class", "nothing", "unsure", "withdrawn"]
WITHDRAWN: Verdict = "withdrawn"  # in the record alone: the reviewer took the last verdict back
VERDICTS: tuple[str, ...] = tuple(one for one in get_args(Verdict) if one != WITHDRAWN)
COMPLETE = "complete"  # verdict on an image: it was looked at whole
MISSED = "missed"  # verdict of a row that names an object without a correct box
Why = Literal["random", "suspicious", "image", "review", "carried"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Drawn:
    """A box that a plan asks for.

    Attributes:
        annotation_id: The box.
        why: random; suspicious: such a verdict says nothing about the other boxes; image: a box of an image that is to
            be looked at whole. Of verdicts also review: a person chose the box in another tool; carried: it was given
            on a box of another run, see `mining.quality.carrying`.
        inclusion_probability: Of a random draw, over all plans of the run so far; None for others.
    """

    annotation_id: int
    why: Why
    inclusion_probability: float | None = None


@dataclass(frozen=True)
class DrawnImage:
    """An image that a plan asks to look at whole.

    Attributes:
        file_name: The image.
        inclusion_probability: Over all plans of the run so far.
    """

    file_name: str
    inclusion_probability: float


@dataclass(frozen=True)
class Judgement:
    """A verdict of one reviewer on a box.

    Attributes:
        plan: The plan that asked for it, empty if none did.
        why: See Drawn.
        annotation_id: The box.
        file_name: Its image.
        content_hash: SHA-256 of the image's file in the run, None if the run has none.
        category: Its class.
        x: Left edge in px, as it was mined.
        y: Top edge in px.
        w: Width in px.
        h: Height in px.
        verdict: One of VERDICTS.
        new_x: Left edge of the box as the reviewer corrected it, None without a correction.
        new_y: Top edge.
        new_w: Width.
        new_h: Height.
        new_category: Its class as the reviewer corrected it, None without a correction.
        reviewer: Name.
        time: ISO 8601, UTC.
    """

    plan: str
    why: Why
    annotation_id: int
    file_name: str
    content_hash: str | None
    category: str
    x: float
    y: float
    w: float
    h: float
    verdict: Verdict
    new_x: float | None
    new_y: float | None
    new_w: float | None
    new_h: float | None
    new_category: str | None
    reviewer: str
    time: str

    @property
    def mined(self) -> Box:
        """The box as it was mined, xywh in px."""
        return self.x, self.y, self.w, self.h

    @property
    def corrected(self) -> Box | None:
        """The box as the reviewer corrected it, xywh in px; None without a correction."""
        if self.new_x is None or self.new_y is None or self.new_w is None or self.new_h is None:
            return None
        return self.new_x, self.new_y, self.new_w, self.new_h

    @property
    def place(self) -> tuple[int, str, str]:
        """Which row of which plan it fills, and who filled it."""
        return self.annotation_id, self.reviewer, self.plan

    def agrees_with(self, other: "Judgement") -> bool:
        """Return whether both have the same verdict and correction."""
        same = (self.verdict, self.corrected, self.new_category)
        return same == (other.verdict, other.corrected, other.new_category)


@dataclass(frozen=True)
class MissedObject:
    """An object without a correct box.

    Attributes:
        category: Its class.
        xywh: Its box in px, None where the reviewer gave none.
    """

    category: str
    xywh: Box | None


@dataclass(frozen=True)
class ImageJudgement:
    """What one reviewer says of an image that was looked at whole, besides the verdicts on its boxes.

    Attributes:
        plan: The plan that asked for it, empty if none did.
        file_name: The image.
        content_hash: As in Judgement.
        missed: All objects without a correct box.
        reviewer: Name.
        time: ISO 8601, UTC.
    """

    plan: str
    file_name: str
    content_hash: str | None
    missed: tuple[MissedObject, ...]
    reviewer: str
    time: str
