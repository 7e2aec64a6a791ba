"""Settings of a labelling job: the recipe of `boxmine label`."""

import os
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from mining.config import CorpusSettings, MineSection, ModelReference, Settings, Share, resolve_path
from mining.config.recipes import MayBePath
from mining.storage.names import FolderName


class Gates(Settings):
    """Quality gates that a new version must pass to be published; null switches a gate off."""

    min_images: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=10,
        description="Number of newly mined images from which max_no_box and max_quarantined are compared with their "
        "limits. A version with fewer is published with a note, unless all of its new images are unusable, or at least "
        "five images all have no box; the images are counted again with those of the next nights until they suffice.",
    )
    max_no_box: Share | None = Field(
        default=0.5,
        description="Maximum share of the newly mined, readable images that have no box.",
    )
    max_quarantined: Share | None = Field(
        default=0.2, description="Maximum share of the newly mined images that are unusable."
    )
    max_retired: Share | None = Field(
        default=0.3,
        description="Maximum share of the last version's images that are gone: not listed any more, or listed but "
        "missing. A folder that is not mounted looks like that.",
    )
    max_score_drift: Share | None = Field(
        default=0.2,
        description="Maximum distance of the new boxes' scores from those of the last version: largest difference of "
        "the two cumulative distributions (Kolmogorov-Smirnov), beyond what chance exceeds once in a thousand.",
    )
    max_size_drift: Share | None = Field(default=0.2, description="The same for the boxes' sizes.")
    min_corloc: Share | None = Field(default=None, description="Minimum CorLoc of the new version; needs ground truth.")
    max_corloc_drop: Share | None = Field(
        default=0.05,
        description="Maximum drop of CorLoc since the last version, on the images of both; needs ground truth.",
    )
    min_precision: Share | None = Field(
        default=None,
        description="Minimum of the lower end of the 95 % interval of the new boxes' precision, from the verdicts of "
        "people (boxmine audit); without enough of them the version is staged.",
    )


class LabelSettings(Settings):
    """A labelling job: mine what is new since the last version, check it and publish it."""

    name: Annotated[FolderName, Field(pattern=r"^[^ ,]*$")] = Field(
        default="images", description="Name of the corpus in the label store; a store may hold several corpora."
    )
    store: Annotated[str, MayBePath()] = Field(
        description="Label store: a folder, or an s3://, gs:// or az:// address."
    )
    runs: Path = Field(description="Folder for the run directories, one per job.")
    corpus: CorpusSettings
    model: ModelReference = Field(
        description="Model folder, or pretrained:NAME for a classifier of torchvision or timm without any training."
    )
    mine: MineSection = Field(default_factory=MineSection)
    truth: Path | None = Field(
        default=None, description="Ground truth boxes for the gates: COCO JSON, folder of VOC XML, or CUB folder."
    )
    gates: Gates = Field(default_factory=Gates)
    keep_runs: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Number of unpublished runs to keep; older ones are deleted. By default all are kept."
    )

    @model_validator(mode="after")
    def _check_min_corloc(self) -> Self:
        if self.gates.min_corloc is not None and self.truth is None:
            raise ValueError("the gate min_corloc needs `truth`, ground truth boxes; without them it is never judged")
        return self

    @field_validator("mine")
    @classmethod
    def _refuse_int8(cls, mine: MineSection) -> MineSection:
        if mine.precision == "int8":
            raise ValueError(
                "precision int8 is not for labelling jobs: each would quantize the network again, with its few new "
                "images, and labels of one version would come from different networks"
            )
        return mine

    @field_validator("runs")
    @classmethod
    def _resolve_paths(cls, path: Path) -> Path:
        return resolve_path(path)

    @field_validator("store")
    @classmethod
    def _resolve_store(cls, store: str) -> str:
        return address(store)


def is_remote(store: str) -> bool:
    """Whether the store is on object storage."""
    return "://" in store


def address(store: str) -> str:
    """Return the store's address as records have it: an absolute path, or a URL."""
    return store.rstrip("/") if is_remote(store) else str(resolve_path(Path(os.path.expanduser(store))))


class VersionChoice(NamedTuple):
    """Which version of a label store to read.

    Attributes:
        as_of: Number of the version, or a time (ISO 8601); None = the last version.
        corpus: Name of the corpus; needed where the store holds several.
        images: Folder of the images on this machine, if it is not where they were labelled.
    """

    as_of: str | None = None
    corpus: str | None = None
    images: Path | None = None
