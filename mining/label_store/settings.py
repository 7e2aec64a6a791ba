"""What a recipe of `boxmine label` says."""

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from mining.config import CorpusSettings, MineSection, ModelReference, Settings, Share, resolve_path
from mining.config.recipes import MayBePath
from mining.storage.names import FolderName


class Gates(Settings):
    """What a new version must keep to be published; null switches a gate off."""

    min_images: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=10,
        description="From so many newly mined images on, max_no_box and max_quarantined are compared with their "
        "limits. A version of fewer is published with a note, unless all of its new images are unusable, or all of at "
        "least five are without a box; they are counted once more with those of the next nights until they suffice.",
    )
    max_no_box: Share | None = Field(
        default=0.5,
        description="Share of the newly mined images that may be without a box, unreadable ones aside.",
    )
    max_quarantined: Share | None = Field(
        default=0.2, description="Share of the newly mined images that may be unusable."
    )
    max_retired: Share | None = Field(
        default=0.3,
        description="Share of the last version's images that may be gone, whether they are not listed any more or "
        "listed but missing: a folder that is not mounted looks so.",
    )
    max_score_drift: Share | None = Field(
        default=0.2,
        description="How far the new boxes' scores may lie from those of the last version: largest distance of the "
        "two cumulative distributions (Kolmogorov-Smirnov), beyond what chance gives once in a thousand.",
    )
    max_size_drift: Share | None = Field(default=0.2, description="The same of the boxes' sizes.")
    min_corloc: Share | None = Field(default=None, description="Least CorLoc of the new version, where there is truth.")
    max_corloc_drop: Share | None = Field(
        default=0.05,
        description="How far CorLoc may fall below the last version's on the images of both, where there is truth.",
    )


class LabelSettings(Settings):
    """A labelling job: what is new since the last version is mined, looked at and published."""

    name: Annotated[FolderName, Field(pattern=r"^[^ ,]*$")] = Field(
        default="images", description="Name of the corpus in the label store, which may hold several."
    )
    store: Annotated[str, MayBePath()] = Field(
        description="Where the labels lie: a folder, or s3://, gs:// or az:// and a place there."
    )
    runs: Path = Field(description="Folder for the run directories, one a job.")
    corpus: CorpusSettings
    model: ModelReference = Field(description="Model folder, or pretrained:BACKBONE for ImageNet's classes.")
    mine: MineSection = Field(default_factory=MineSection)
    truth: Path | None = Field(
        default=None, description="Boxes that are known, for the gates: COCO JSON, folder of VOC XML, or CUB folder."
    )
    gates: Gates = Field(default_factory=Gates)
    keep_runs: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Unpublished runs older than the last so many are deleted; by default none is."
    )

    @model_validator(mode="after")
    def _check_min_corloc(self) -> Self:
        if self.gates.min_corloc is not None and self.truth is None:
            raise ValueError("the gate min_corloc needs `truth`, a file of true boxes: without one it is never judged")
        return self

    @field_validator("runs")
    @classmethod
    def _resolve_paths(cls, path: Path) -> Path:
        return resolve_path(path)

    @field_validator("store")
    @classmethod
    def _resolve_store(cls, store: str) -> str:
        return address(store)


def is_remote(store: str) -> bool:
    """Whether the store lies on object storage."""
    return "://" in store


def address(store: str) -> str:
    """The store's address as records name it, whatever folder it was given from."""
    return store.rstrip("/") if is_remote(store) else str(resolve_path(Path(os.path.expanduser(store))))
