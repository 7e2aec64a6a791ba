"""Install a model into the folder of a run or a job, so that the run keeps the weights it was mined with."""

from pathlib import Path

from mining.config import MineOptions
from mining.errors import ModelError
from mining.models.card import CARD_FILE, PRETRAINED, WEIGHTS_FILE, ModelCard, read_card
from mining.models.checkpoint import refuse_other_weights, save_model, write_card
from mining.models.class_selection import select_classes
from mining.models.pretrained import is_pretrained, pretrained_card, pretrained_model
from mining.models.pretrained_choice import only_weights
from mining.storage.files import atomic_write, link_or_copy

_IDENTITY = ("backbone", "classes", "selection", "objective", "training")


def install_model(reference: str, folder: Path, options: MineOptions | None = None) -> ModelCard:
    """Install a model into `folder`, unless it is there already.

    Args:
        reference: Path of a model folder, or `pretrained:NAME`.
        folder: Where to install it.
        options: Which classes are mined and how they are renamed, so that the installed card has these classes only;
            and the weights of `pretrained:NAME`.

    Returns:
        The card of the installed model.

    Raises:
        ModelError: The model is not available or damaged, it lacks a class of the options, or `folder` holds another
            model.
    """
    if reference.startswith(PRETRAINED):
        return _install_pretrained(reference, folder, options)
    source = Path(reference)
    card = read_card(source)
    refuse_other_weights(source / WEIGHTS_FILE, card)
    installed = card if options is None else select_classes(card, options)
    if source.resolve() == folder.resolve():
        if installed is not card:
            raise ModelError(f"{folder} is the run's own model; to select other classes, give another --out.")
        return card
    if (folder / CARD_FILE).is_file() and read_card(folder).weights_sha256 != card.weights_sha256:
        raise ModelError(f"{folder} holds another model than {source}; give another --out.")
    # the card last: a folder with a card is complete
    for name in (WEIGHTS_FILE, CARD_FILE) if installed is card else (WEIGHTS_FILE,):
        with atomic_write(folder / name) as temporary:
            link_or_copy(source / name, temporary)  # linked, so that nightly runs share the space of one model
    if installed is not card:
        write_card(folder, installed)
    return installed


def _install_pretrained(reference: str, folder: Path, options: MineOptions | None) -> ModelCard:
    name = reference.removeprefix(PRETRAINED)
    installed = read_card(folder) if (folder / CARD_FILE).is_file() else None
    if installed is not None and not is_pretrained(installed.training):
        raise ModelError(f"{folder} holds a trained model, not {reference}; give another --out.")

    def select(card: ModelCard) -> ModelCard:
        return card if options is None else select_classes(card, options)

    wanted = select(pretrained_card(name, options))  # before anything is downloaded
    if installed is not None and all(getattr(installed, part) == getattr(wanted, part) for part in _IDENTITY):
        return installed
    localizer, card = pretrained_model(name, None if options is None else only_weights(options))
    return save_model(folder, localizer, select(card))
