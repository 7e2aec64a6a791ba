"""Types that options of several localizers share: ranges, lists from a command line, presets; no torch."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field


def meaning(text: str) -> Any:
    """Give an option its meaning, which `boxmine localizers NAME` shows."""
    return Field(description=text)


def comma_separated(value: Any) -> Any:
    """Split '2, 3' from a command line into its parts; other values are returned unchanged."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def stage_numbers(value: Any) -> Any:
    """Split '2, 3' into its parts; 'none' is no stage."""
    return () if value == "none" else comma_separated(value)


def _check_rising(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("give each down-sampling once, in rising order")
    return values


def _check_odd_kernel(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("a kernel is of odd size, so that it has a centre")
    return value


def check_odd_side(side: int) -> int:
    """Check the side of a window, which must have a middle; raises ValueError."""
    if side % 2 == 0:
        raise ValueError("a window has a middle only where its side is odd")
    return side


def _check_below(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError("the first threshold, of the background, must be below the second, of objects")
    return value


Background = Literal["mean", "none"]
BACKGROUND = (
    "mean: the mean of all classes' maps is subtracted, because a softmax classifier leaves undetermined what all "
    "class maps share; none: the map as the paper has it."
)
Dropout = Annotated[float, Field(ge=0, lt=1), meaning("Dropout on the averaged features, in training.")]
Count = Annotated[int, Field(ge=1, le=65_536)]
Weight = Annotated[float, Field(ge=0)]
_Threshold = Annotated[float, Field(gt=0, lt=1)]
Thresholds = Annotated[tuple[_Threshold, _Threshold], AfterValidator(_check_below), BeforeValidator(comma_separated)]
Places = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(_check_rising), BeforeValidator(comma_separated)
]
Kernel = Annotated[int, Field(ge=1), AfterValidator(_check_odd_kernel)]
Kernels = Annotated[tuple[Kernel, ...], BeforeValidator(comma_separated)]
Layers = Annotated[int, Field(ge=0, le=100)]
PAPER = "paper"
Preset = Literal["pretrained", "paper"]
OVERRIDDEN = "Options that are given as well override it."
