"""model.json: what is known about a model without loading it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mining.config import DETECTOR_KINDS, Objective
from mining.errors import ModelError
from mining.localizers.option_values import recorded_options
from mining.localizers.options import CellSpec
from mining.storage.untrusted_files import read_json

FORMAT = "boxmine-model/1"
PRETRAINED = "pretrained:"
WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "model.json"
INT8_FILE = "int8.zip"  # networks in int8, in the model folder of a run that mines with them
IMPORTED = "import"  # localizer of the boxes of another tool: the run has a card, but no model
OBJECT = "object"  # category of boxes whose class is not known
CHECKPOINTS = "checkpoints"  # of an unfinished training, in the model folder
# in the inputs of a training: {"sha256": of the file with true boxes, "images": SHA-256 of each image that it has}
TRUE_BOXES = "true_boxes"
# in the training of a detector: whether its backbone has learned from COCO's boxes
SEEN_COCO = "seen_coco"
PICTURES = "pictures"  # of the epochs of a training, in the model folder
_MAX_INPUT_SIZE = 16_384
_MAX_STAGES, _MAX_WIDTH = 100, 65_536  # of a cell classifier


@dataclass(frozen=True)
class OutputSelection:
    """Which outputs of a network a card's classes stand for, where they are not simply all of them in order.

    Attributes:
        count: Number of outputs of the network.
        outputs: Per class, the indices of its outputs; none for the class `object`.
    """

    count: int
    outputs: list[list[int]]


@dataclass(frozen=True)
class ModelCard:
    """The content of model.json: what is needed to build the localizer again, and how it was trained.

    Attributes:
        localizer: Its name in the registry; of a detector its kind, e.g. fcos.
        backbone: Its name in the registry, or timm's.
        objective: One class per image (softmax), or several (sigmoid).
        classes: [{"id": 1, "name": "dog"}, ...] in the order of the logits.
        input_size: Side in px of the network's input at scale 1; of a detector the longer side of its images.
        normalisation: Mean and deviation of the backbone's input.
        options: The options of the localizer or detector.
        training: Record of the training.
        weights_sha256: Digest of the weights file; empty where none is known.
        selection: The outputs of the classes, where a run mines with a part of the classes or renames them.
        cells: Shape of the cell classifier among the weights; None if there is none.
        own_head: Whether the network is an unmodified classifier with its own head (mining/backbones/classifiers.py)
            rather than a backbone, on which the localizer has layers of its own.
    """

    localizer: str
    backbone: str
    objective: Objective
    classes: list[dict[str, Any]]
    input_size: int
    normalisation: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    selection: OutputSelection | None = None
    cells: CellSpec | None = None
    own_head: bool = False

    @property
    def class_names(self) -> list[str]:
        """Class names in the order of the logits."""
        return [str(entry["name"]) for entry in self.classes]

    @property
    def warnings(self) -> list[str]:
        """Sentences of the training about labels that teach little, or a model that will not localize."""
        found = self.training.get("warnings", [])
        return [str(one) for one in found] if isinstance(found, list) else []

    @property
    def object_index(self) -> int | None:
        """Index of the class `object`, which has no output of its own; None if the card does not have it."""
        return None if self.selection is None or self.selection.outputs[-1] else len(self.classes) - 1

    @property
    def output_count(self) -> int:
        """Number of outputs of the network."""
        return len(self.classes) if self.selection is None else self.selection.count

    def to_record(self) -> dict[str, Any]:
        """Return the card as JSON values; what it does not have is left out, as it was before there was any."""
        record = asdict(self)
        absent = {"selection": None, "cells": None, "own_head": False}
        return {name: value for name, value in record.items() if name not in absent or value != absent[name]}

    def is_like(self, other: "ModelCard") -> bool:
        """Whether runs with the two models give the same boxes."""
        return replace(self, training={}) == replace(other, training={})


def read_card(folder: Path) -> ModelCard:
    """Read a folder's model.json.

    Raises:
        ModelError: The folder is missing or is not a boxmine model.
    """
    path = folder / CARD_FILE
    if not os.path.lexists(folder):
        raise ModelError(f"No model folder {folder}; train one with `boxmine train`, or give pretrained:BACKBONE.")
    hint = ""
    try:
        values = read_json(path)
        version = values.pop("format")
        if version != FORMAT:
            hint = f" Its format is {version!r:.60}, this version of boxmine reads {FORMAT!r}."
            raise KeyError("format")
        values["options"] = recorded_options(values["localizer"], values.get("options", {}))
        if values.get("selection") is not None:
            values["selection"] = OutputSelection(**values["selection"])
        if values.get("cells") is not None:
            values["cells"] = CellSpec(**values["cells"])
        return _validate(ModelCard(**values))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{folder} is not a boxmine model: it needs a {CARD_FILE} as `boxmine train` writes it.{hint} "
            "To use plain weights of a backbone, train with --weights FILE."
        ) from None


def refuse_imported(card: ModelCard, folder: Path) -> None:
    """Raise ModelError for the card of a run whose boxes another tool made: there is no model to load."""
    if card.localizer == IMPORTED:
        raise ModelError(f"{folder} holds no model: the boxes of this run were imported.")


def is_detector(card: ModelCard) -> bool:
    """Return whether the model is a detector, trained from boxes, rather than a localizer."""
    return card.localizer in DETECTOR_KINDS


def refuse_detector(card: ModelCard, folder: Path) -> None:
    """Raise ModelError for the card of a detector, where activation maps are needed."""
    if is_detector(card):
        raise ModelError(
            f"{folder} holds a detector ({card.localizer}), which has no activation maps; give a model that "
            "`boxmine train` wrote."
        )


def _validate(card: ModelCard) -> ModelCard:
    """Return the card unchanged; raises ValueError where a value is of the wrong kind."""
    TypeAdapter(ModelCard).validate_python(asdict(card))
    is_named = all(isinstance(entry.get("id"), int) and isinstance(entry.get("name"), str) for entry in card.classes)
    names = [entry.get("name") for entry in card.classes]
    if not card.classes or not is_named or len(set(names)) < len(names):
        raise ValueError("classes")
    if not 1 <= card.input_size <= _MAX_INPUT_SIZE:
        raise ValueError("input_size")
    if card.selection is not None:
        outputs = [output for group in card.selection.outputs for output in group]
        is_valid = all(0 <= output < card.selection.count for output in outputs) and len(set(outputs)) == len(outputs)
        named = card.selection.outputs if names[-1] != OBJECT else card.selection.outputs[:-1]
        if not is_valid or not all(named) or len(card.selection.outputs) != len(card.classes):
            raise ValueError("selection")
    if card.cells is not None and not _is_valid(card.cells):
        raise ValueError("cells")
    return card


def _is_valid(cells: CellSpec) -> bool:
    sizes = [*cells.components, cells.hidden]
    return (
        0 < len(cells.stages) == len(cells.components)
        and all(0 <= stage < _MAX_STAGES for stage in cells.stages)
        and all(0 < size <= _MAX_WIDTH for size in sizes)
    )


def unknown_classes(names: Mapping[str, int] | Sequence[str], card: ModelCard) -> list[str]:
    """List the class names that the model does not have, in the order given."""
    known = set(card.class_names)
    return [name for name in names if name not in known]
