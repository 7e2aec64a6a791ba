"""What the page of maps shows: which images, and which localizers of which models; imports no network library."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mining.backbones.registry import has_linear_classifier
from mining.config import MapsSettings
from mining.corpus.file_walker import FileWalker
from mining.errors import CorpusError, InputError, ModelError, did_you_mean
from mining.localizers.registry import localizers_on_same_weights, refuse_unknown_localizer
from mining.models.card import CARD_FILE, PRETRAINED, ModelCard, read_card, refuse_detector
from mining.models.pretrained_choice import default_localizer, reads_any_head


@dataclass(frozen=True)
class Column:
    """A localizer on the weights of a model.

    Attributes:
        model: Model folder, or pretrained:BACKBONE.
        localizer: Its name in the registry.
        is_own: Whether the model was trained for it.
        model_name: The model in a heading.
    """

    model: str
    localizer: str
    is_own: bool
    model_name: str


def split_models(first: str, rest: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Divide a command line into models and images: a model is pretrained:BACKBONE, or a folder with a model.json.

    A file whose name begins with `pretrained:` is an image.

    Args:
        first: The first argument, always a model.
        rest: The further ones.

    Raises:
        InputError: The first one is no model, or there is no image among the others.
    """
    models = [first, *filter(_is_model, rest)]
    images = [Path(name) for name in rest if not _is_model(name)]
    if not _is_model(first) and Path(first).exists():
        raise InputError(f"{first} has no {CARD_FILE}, so it is no model. Give the models first, then the images.")
    if not images:
        raise InputError("Give image files or folders of images after the models.")
    return models, images


def _is_model(name: str) -> bool:
    path = Path(name)
    return (path / CARD_FILE).is_file() or (name.startswith(PRETRAINED) and not path.is_file())


def find_photos(settings: MapsSettings) -> tuple[list[Path], list[str]]:
    """List the images to show.

    Returns:
        At most `max_images` files, in the order given; and sentences on those that were left out.

    Raises:
        CorpusError: A file or folder does not exist, or there is no image in a folder.
    """
    photos: list[Path] = []
    notes: list[str] = []
    for path in settings.images:
        if path.is_dir():
            found, skipped = _photos_in(path)
            photos += found
            notes += skipped
        elif path.is_file():
            photos.append(path)
        else:
            raise CorpusError(f"{path} does not exist. Give image files, folders of images, or model folders.")
    photos = list(dict.fromkeys(photos))
    if len(photos) <= settings.max_images:
        return photos, notes
    step = len(photos) / settings.max_images
    shown = [photos[int(step * number)] for number in range(settings.max_images)]
    left_out = f"{len(shown)} of {len(photos)} images are shown, evenly spaced in the order given; see --max-images."
    return shown, [*notes, left_out]


def _photos_in(folder: Path) -> tuple[list[Path], list[str]]:
    if not os.access(folder, os.R_OK | os.X_OK):
        raise CorpusError(f"{folder} cannot be opened. Make it readable, or give image files.")
    walker = FileWalker(os.path.realpath(folder))
    names = sorted(walker)
    if not names:
        raise CorpusError(f"There is no image in {folder}. Give image files, folders of images, or model folders.")
    return [folder / name for name in names], walker.notes()


def plan_columns(settings: MapsSettings) -> list[Column]:
    """Choose the localizers of each model.

    Raises:
        ModelError: A model cannot be used, a localizer is unknown, or no model has weights that serve it.
    """
    for name in settings.localizers:
        refuse_unknown_localizer(name)
    names = short_names(settings.models)
    columns, every = [], set()
    for model in settings.models:
        own, served = _localizers_of(model)
        every.update(served)
        chosen = [name for name in settings.localizers if name in served] or [own]
        if not settings.localizers and len(settings.models) == 1:
            chosen = served
        columns += [Column(model, name, name == own, names[model]) for name in chosen]
    unserved = next((name for name in settings.localizers if name not in every), None)
    if unserved is not None:
        raise ModelError(
            f"The weights given serve {', '.join(sorted(every))}, not {unserved}. Train a model with --localizer "
            f"{unserved}, and give its folder too."
        )
    return columns


def _localizers_of(model: str) -> tuple[str, list[str]]:
    """The localizer of a model, and all that its weights serve."""
    if model.startswith(PRETRAINED):
        name = model.removeprefix(PRETRAINED)
        own, has_own_head = default_localizer(name), not has_linear_classifier(name)
    else:
        card = read_card(Path(model))
        refuse_detector(card, Path(model))
        own, has_own_head = card.localizer, card.own_head
    served = [own, *localizers_on_same_weights(own)]
    return own, [name for name in served if reads_any_head(name)] if has_own_head else served


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Return the shortest ends of the models' paths that differ, e.g. `a/model` and `b/model`."""
    parts = {model: Path(model.rstrip("/")).parts if "/" in model else (model,) for model in models}
    longest = max(map(len, parts.values()))
    for count in range(1, longest + 1):
        names = {model: "/".join(own[-count:]) for model, own in parts.items()}
        if len(set(names.values())) == len(models):
            return names
    return {model: model for model in models}


def refuse_unknown_classes(classes: Sequence[str], cards: Sequence[ModelCard]) -> None:
    """Check that each class is one of a model's.

    Raises:
        ModelError: No model knows it; the message has the nearest name.
    """
    known = list(dict.fromkeys(name for card in cards for name in card.class_names))
    unknown = next((name for name in classes if name not in known), None)
    if unknown is not None:
        owner = "The model does not know" if len(cards) == 1 else "None of the models knows"
        raise ModelError(f"{owner} the class {unknown!r}: {did_you_mean(unknown, known)}")
