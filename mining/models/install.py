"""Install a model into the folder of a run or a job, so that the run keeps the weights it was mined with."""

from pathlib import Path

from mining.errors import ModelError
from mining.models.card import CARD_FILE, PRETRAINED, WEIGHTS_FILE, ModelCard, read_card
from mining.models.checkpoint import refuse_other_weights, save_model
from mining.models.pretrained import UNTRAINED, pretrained_model
from mining.storage.files import atomic_write, link_or_copy


def install_model(reference: str, folder: Path) -> ModelCard:
    """Install a model into `folder`, unless it is there already.

    Args:
        reference: Path of a model folder, or `pretrained:BACKBONE`.
        folder: Where to install it.

    Returns:
        The card of the installed model.

    Raises:
        ModelError: The model is not available or damaged, or `folder` holds another model.
    """
    if reference.startswith(PRETRAINED):
        return _install_pretrained(reference, folder)
    source = Path(reference)
    card = read_card(source)
    refuse_other_weights(source / WEIGHTS_FILE, card)
    if source.resolve() != folder.resolve():
        if (folder / CARD_FILE).is_file() and read_card(folder).weights_sha256 != card.weights_sha256:
            raise ModelError(f"{folder} holds another model than {source}; give another --out.")
        for name in (WEIGHTS_FILE, CARD_FILE):  # the card last: a folder with a card is complete
            with atomic_write(folder / name) as temporary:
                link_or_copy(source / name, temporary)  # linked, so that nightly runs share the space of one model
    return card


def _install_pretrained(reference: str, folder: Path) -> ModelCard:
    backbone = reference.removeprefix(PRETRAINED)
    installed = read_card(folder) if (folder / CARD_FILE).is_file() else None
    if installed is not None and installed.training != UNTRAINED:
        raise ModelError(f"{folder} holds a trained model, not {reference}; give another --out.")
    if installed is not None and installed.backbone == backbone:
        return installed
    return save_model(folder, *pretrained_model(backbone))
