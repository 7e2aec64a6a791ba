"""Restrict and rename a model's classes, as the settings `classes` and `map` ask for; imports no network library."""

from collections.abc import Sequence
from dataclasses import replace

from mining.config import MineOptions
from mining.errors import ModelError, did_you_mean
from mining.models.card import OBJECT, ModelCard, OutputSelection


def select_classes(card: ModelCard, options: MineOptions) -> ModelCard:
    """Return the card with only the classes that are mined, under their new names, and with `object` if it is mined.

    Renaming comes first: `options.classes` are names after `options.map`. Classes that are mapped to one name become
    one class; so does a class that has that name already. Its probability is the highest of their probabilities, and
    its map is that of the most probable one (see `mining.models.class_outputs`). It has the id of the class that had
    the name already, otherwise that of its first class. The order is that of the card.

    Args:
        card: The model's card.
        options: Which classes, and how they are renamed.

    Raises:
        ModelError: A name is not one of the model's; the message has the nearest one. Or the model has a class
            `object` of its own.
    """
    selected = _select(card, options) if options.classes or options.map else card
    return _with_object(selected) if options.object_boxes else selected


def _select(card: ModelCard, options: MineOptions) -> ModelCard:
    renamed = rename_classes(card, options)
    _refuse_unknown(options.classes, renamed.class_names, "--classes")
    wanted = set(options.classes or renamed.class_names)
    kept = [index for index, name in enumerate(renamed.class_names) if name in wanted]
    outputs = _outputs(renamed)
    selection = OutputSelection(renamed.output_count, [outputs[index] for index in kept])
    return replace(renamed, classes=[renamed.classes[index] for index in kept], selection=selection)


def rename_classes(card: ModelCard, options: MineOptions) -> ModelCard:
    """Return the card with all of its classes, renamed by `options.map`: the names that labels may have.

    Raises:
        ModelError: The model does not have a class that is mapped.
    """
    new_names = dict(pair.split("=", 1) for pair in options.map)
    if not new_names:
        return card
    _refuse_unknown(list(new_names), card.class_names, "--map")
    members: dict[str, list[int]] = {}
    for index, name in enumerate(card.class_names):
        members.setdefault(new_names.get(name, name), []).append(index)
    outputs = _outputs(card)
    classes, groups = [], []
    for name, indices in members.items():
        namesake = next((index for index in indices if card.class_names[index] == name), indices[0])
        classes.append({**card.classes[namesake], "name": name})
        groups.append([output for index in indices for output in outputs[index]])
    return replace(card, classes=classes, selection=OutputSelection(card.output_count, groups))


def _with_object(card: ModelCard) -> ModelCard:
    """Return the card with the class `object` as its last one."""
    if OBJECT in card.class_names:
        raise ModelError(
            f"The model has a class {OBJECT!r} of its own, so that --object-boxes has no name for its boxes; rename "
            f"that class with --map {OBJECT}=NAME."
        )
    listed = {"id": max(int(one["id"]) for one in card.classes) + 1, "name": OBJECT}
    selection = OutputSelection(card.output_count, [*_outputs(card), []])
    return replace(card, classes=[*card.classes, listed], selection=selection)


def _outputs(card: ModelCard) -> list[list[int]]:
    """The network outputs of each class."""
    return [[index] for index in range(len(card.classes))] if card.selection is None else card.selection.outputs


def _refuse_unknown(names: Sequence[str], known: list[str], option: str) -> None:
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise ModelError(f"The model does not have the class {unknown!r} of {option}: {did_you_mean(unknown, known)}")
