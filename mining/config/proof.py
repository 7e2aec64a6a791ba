"""Settings of a proof: what are mined boxes worth to a detector, compared with true ones?"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from mining.config.audit import VERDICTS
from mining.config.base import Seed, Settings
from mining.config.detector import DetectorSection, DetectorSettings

ArmName = Literal["true", "mined", "audited", "centred", "whole"]
ARMS: tuple[ArmName, ...] = get_args(ArmName)
WITH_TRUTH: tuple[ArmName, ...] = ("true", "audited")


class TestImages(Settings):
    """Images that no step has seen, with all their boxes."""

    images: Path = Field(description="Folder of the images.")
    truth: Path = Field(description="True boxes of all of them: COCO JSON, folder of VOC XML, or CUB folder.")


class ProofSettings(Settings):
    """A recipe: the same detector is trained on different boxes of the same images, and tested on other images."""

    out: Path = Field(description="Folder of the detectors and of the figures.")
    runs: Annotated[tuple[Path, ...], Field(min_length=1)] = Field(
        description="Finished runs of the training images: one, or one per seed, whose models differ in their seed."
    )
    truth: Path | None = Field(
        default=None,
        description="True boxes of the training images. Without them there is no comparison with a detector from true "
        "boxes, only with boxes that do not look at the image.",
    )
    test: TestImages
    detector: DetectorSection = Field(default_factory=DetectorSection)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = Field(
        default=(0, 1, 2), description="Seeds of the trainings; each trains all detectors once."
    )
    arms: Annotated[tuple[ArmName, ...], Field(min_length=1)] = Field(
        default=ARMS,
        description="Boxes to train on: true; mined; audited (mined, and corrected by a simulated review); centred (a "
        "box of half the image's area in its centre for each label) and whole (the whole image).",
    )
    verdicts: Annotated[int, Field(ge=1)] = Field(
        default=VERDICTS, description="Boxes that the simulated review of `audited` judges and corrects."
    )
    budget: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(50, 100, 200, 400),
        description="Numbers of true boxes: each is trained on alone, and together with the mined boxes of the other "
        "images. The comparison says how many true boxes the mined ones are worth.",
    )
    resamples: Annotated[int, Field(ge=100, le=100_000)] = Field(
        default=1000, description="Resamples of test images and seeds behind each interval."
    )

    @field_validator("runs", mode="before")
    @classmethod
    def _accept_one_run(cls, runs: Any) -> Any:
        return [runs] if isinstance(runs, str | Path) else runs

    @field_validator("arms", mode="before")
    @classmethod
    def _accept_yaml_true(cls, arms: Any) -> Any:
        return ["true" if arm is True else arm for arm in arms] if isinstance(arms, list) else arms

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "seed" in self.detector.model_fields_set:
            raise ValueError("set the seeds of the trainings by `seeds`, not by `detector.seed`")
        for name in ("seeds", "arms", "budget"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"`{name}` names something twice")
        if len(self.runs) not in (1, len(self.seeds)):
            raise ValueError(f"give one run, or one for each of the {len(self.seeds)} seeds, not {len(self.runs)}")
        if self.truth is None and "arms" in self.model_fields_set and set(self.arms) & set(WITH_TRUTH):
            raise ValueError(f"{' and '.join(WITH_TRUTH)} need `truth`, the true boxes of the training images")
        return self

    @property
    def own_arms(self) -> tuple[ArmName, ...]:
        """The arms that can be trained: without `truth` those that need none."""
        return tuple(arm for arm in self.arms if self.truth is not None or arm not in WITH_TRUTH)

    def run_of(self, seed: Seed) -> Path:
        """Return the run whose boxes a seed learns from."""
        return self.runs[self.seeds.index(seed) % len(self.runs)]

    def detector_settings(self, seed: Seed, epochs: int) -> DetectorSettings:
        """Return the settings of a training."""
        return DetectorSettings(**{**dict(self.detector), "seed": seed, "epochs": epochs})
