"""model.json: what is known of a model without loading it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mining.config import Objective
from mining.errors import ModelError
from mining.storage.untrusted_files import read_json

FORMAT = "boxmine-model/1"
PRETRAINED = "pretrained:"
WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "model.json"
CHECKPOINTS = "checkpoints"  # of an unfinished training, in the model folder


@dataclass(frozen=True)
class ModelCard:
    """What model.json says: everything needed to build the localizer again, and how it came to be."""

    localizer: str
    backbone: str
    objective: Objective
    classes: list[dict[str, Any]]  # [{"id": 1, "name": "dog"}, ...] in the order of the logits
    input_size: int
    normalisation: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""

    @property
    def class_names(self) -> list[str]:
        """In the order of the logits."""
        return [str(one["name"]) for one in self.classes]

    def is_like(self, other: "ModelCard") -> bool:
        """Whether a run with the one gives the boxes of a run with the other."""
        return replace(self, training={}) == replace(other, training={})


def read_card(folder: Path) -> ModelCard:
    """The folder's model.json; raises ModelError when it is no model of ours."""
    path = folder / CARD_FILE
    if not os.path.lexists(folder):
        raise ModelError(f"No model folder {folder}; train one with `boxmine train`, or give pretrained:BACKBONE.")
    hint = ""
    try:
        values = read_json(path)
        found = values.pop("format")
        if found != FORMAT:
            hint = f" Its format is {found!r:.60}, this version of boxmine reads {FORMAT!r}."
            raise KeyError("format")
        return _checked(ModelCard(**values))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{folder} is not a boxmine model: it needs a {CARD_FILE} as `boxmine train` writes it.{hint} "
            "To use plain weights of a backbone, train with --weights FILE."
        ) from None


def _checked(card: ModelCard) -> ModelCard:
    """The card as it is; raises ValueError when a value is of the wrong kind."""
    TypeAdapter(ModelCard).validate_python(asdict(card))
    named = all(isinstance(one.get("id"), int) and isinstance(one.get("name"), str) for one in card.classes)
    names = [one.get("name") for one in card.classes]
    if not card.classes or not named or not 1 <= card.input_size <= 16_384 or len(set(names)) < len(names):
        raise ValueError("classes or input_size")
    return card


def unknown_classes(names: Mapping[str, int] | Sequence[str], card: ModelCard) -> list[str]:
    """The class names that the model does not know, in order."""
    known = set(card.class_names)
    return [name for name in names if name not in known]
