"""Settings of a bootstrap: mine, train a detector on the boxes, mine with it, compare, and again."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from mining.config.base import Settings, Share, resolve_path
from mining.config.corpus import CorpusSettings
from mining.config.detector import DetectorSection
from mining.config.execution import ExecutionOptions, ShardOptions
from mining.config.mine import MineSection, MineSettings, ModelReference
from mining.config.pipeline import RunSettings
from mining.config.train import TrainSection

# settings of mining that matter to a detector: it has no maps
_OF_DETECTORS = {
    *ExecutionOptions.model_fields, *ShardOptions.model_fields, "min_area", "max_area", "max_aspect", "max_borders",
    "merge", "merge_iou",
} - {"curves"}  # fmt: skip


# Minimum score of detected boxes that are combined with others: the one that agrees need not be the best of its class
FUSED_FROM = 0.1


class BootstrapSettings(Settings):
    """A recipe: boxes from labels, then rounds of a detector that learns from them."""

    out: Path = Field(description="Folder of the rounds: runs and detectors.")
    corpus: CorpusSettings
    model: ModelReference | None = Field(
        default=None, description="Instead of training a localizer: a model folder or pretrained:BACKBONE."
    )
    train: TrainSection = Field(default_factory=TrainSection)
    backbones: Annotated[tuple[str, ...], Field(min_length=2)] | None = Field(
        default=None,
        description="Instead of one localizer: one for each of these backbones, two or more, whose boxes are combined. "
        "They err in different places, so that the combined boxes are better than those of each.",
    )
    mine: MineSection = Field(default_factory=MineSection)
    min_present: Share = Field(default=0.5, description="Minimum share of the listed images that must exist.")
    detector: DetectorSection = Field(default_factory=DetectorSection)
    fuse: bool = Field(
        default=True,
        description="Combine the boxes of each detector with those that it learned from: the mean where both agree, "
        "and what only the detector finds behind them. Without, the detector's boxes replace them.",
    )
    class_agnostic: bool = Field(
        default=False,
        description="Train the detectors on one class, object, so that they learn where objects are from the boxes of "
        "all classes. Their boxes have the class of the boxes that they overlap, or of the image's only label.",
    )
    rounds: Annotated[int, Field(ge=1, le=10)] = Field(
        default=1,
        description="Most rounds. The first one whose boxes are not better than those before is the last one.",
    )
    truth: Path | None = Field(
        default=None,
        description="Ground truth of some of these images, to compare the rounds by; boxes are never learned from it.",
    )
    boxes: Path | None = Field(
        default=None,
        description="True boxes of a few of these images, which the localizer learns from, and the detectors instead "
        "of the mined ones: COCO JSON, folder of VOC XML, or CUB folder. All objects of an image that it lists have to "
        "be in it; an image without any box is background.",
    )

    @field_validator("boxes")
    @classmethod
    def _resolve_boxes(cls, path: Path | None) -> Path | None:
        return None if path is None else resolve_path(path)

    @model_validator(mode="after")
    def _check_model_or_train(self) -> Self:
        if self.model is not None and "train" in self.model_fields_set:
            raise ValueError("a recipe has either `model` or `train`, not both")
        return self

    @model_validator(mode="after")
    def _check_backbones(self) -> Self:
        if self.backbones is None:
            return self
        if self.model is not None:
            raise ValueError("a recipe has either `model` or `backbones`, not both")
        if "backbone" in self.train.model_fields_set:
            raise ValueError("a recipe has either `train.backbone` or `backbones`, not both")
        if len(set(self.backbones)) < len(self.backbones):
            raise ValueError("`backbones` names one twice: localizers with the same backbone find the same boxes")
        return self

    @model_validator(mode="after")
    def _check_class_agnostic(self) -> Self:
        if self.class_agnostic and not self.fuse:
            raise ValueError("`class_agnostic` needs `fuse`: the classes of the boxes are those of the boxes before")
        return self

    @model_validator(mode="after")
    def _check_truth_of_others(self) -> Self:
        if self.boxes is not None and self.truth is not None and self.boxes == resolve_path(self.truth):
            raise ValueError(
                "`boxes` and `truth` are the same: rounds are compared on other images than those whose boxes are "
                "learned; omit `truth`, or give boxes of further images"
            )
        return self

    def run_of(self, number: int) -> Path:
        """Return the run directory of a round; 0 is the localizer's."""
        return self.out / f"round-{number}"

    def detector_of(self, number: int) -> Path:
        """Return the model folder of a round's detector, from 1 on."""
        return self.out / f"detector-{number}"

    def detected_by(self, number: int) -> Path:
        """Return the run directory that is mined with a round's detector, from 1 on."""
        return self.out / f"detected-{number}" if self.fuse else self.run_of(number)

    @property
    def image_list(self) -> Path:
        """The names of the images without labels, for detectors that know no class."""
        return self.out / "images.csv"

    def localizer_runs(self) -> list[RunSettings]:
        """Return the settings of the localizers' runs; the first one is round 0 if it is the only one."""
        common: dict[str, Any] = {
            "corpus": self.corpus, "mine": self.mine, "min_present": self.min_present, "truth": self.truth
        }  # fmt: skip
        if self.model is not None:
            return [RunSettings(out=self.run_of(0), model=self.model, **common)]
        common["boxes"] = self.boxes if self.train.cells else None
        if self.backbones is None:
            return [RunSettings(out=self.run_of(0), train=self.train, **common)]
        trainings = [self.train.model_copy(update={"backbone": backbone}) for backbone in self.backbones]
        return [
            RunSettings(out=self.out / f"localizer-{number}", train=training, **common)
            for number, training in enumerate(trainings, start=1)
        ]

    def mine_settings(self, number: int) -> MineSettings:
        """Return the settings of mining with a round's detector, from 1 on."""
        kept = {name: value for name, value in dict(self.mine).items() if name in _OF_DETECTORS}
        corpus = dict(self.corpus)
        if self.class_agnostic:
            corpus = {"images": self.corpus.images, "labels": self.image_list}
        checked = {**corpus, "min_present": self.min_present}
        if self.fuse:
            kept["min_score"] = FUSED_FROM
        return MineSettings(**checked, **kept, model=str(self.detector_of(number)), out=self.detected_by(number))
